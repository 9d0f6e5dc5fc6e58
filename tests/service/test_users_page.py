"""Coming in, in a real browser: the door opens, names are words, nothing breaks.

Chromium, headless; skipped with a reason where there is none.
"""

from __future__ import annotations

import pytest
import sample_results
from test_page import CHROMIUM, FLAGS, sync_api
from test_users_access import NAMES, PASSWORD, House

from twin.service.users import Role

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.mark.parametrize(("scheme", "width"), [("light", 1240), ("dark", 390)])
def test_an_admin_comes_in_by_clicks_and_hostile_names_stay_words(scheme, width):
    """Login, a person, a token, logout; no script error, nothing wider than it."""
    wrong: list[str] = []
    with House() as house, sync_api.sync_playwright() as play:
        house.users.add(HOSTILE, PASSWORD, Role.VIEWER, "ada", sample_results.NOW)
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=FLAGS
        )
        page = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}
        ).new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        page.on(
            "console", lambda said: said.type == "error" and wrong.append(said.text)
        )
        page.goto(f"{house.url}/users")
        page.fill("[name=name]", "ada")
        page.fill("[name=password]", PASSWORD)
        page.click("main button")
        page.wait_for_url("**/users")
        shown = page.locator("[data-user] strong").all_inner_texts()
        page.locator("summary", has_text="Issue a token").click()
        page.fill("form[action='/tokens/issue'] [name=name]", HOSTILE)
        page.click("form[action='/tokens/issue'] button")
        page.wait_for_selector(".secret code")
        token = page.inner_text(".secret code")
        fits = page.evaluate("document.documentElement.scrollWidth")
        page.click(".me button")
        page.wait_for_url("**/login")
        browser.close()
        known = house.ask("GET", "/api/cases", token=token).status_code

    assert sorted(shown) == sorted([*NAMES, HOSTILE])
    assert known == 200
    assert fits <= width
    assert wrong == []
