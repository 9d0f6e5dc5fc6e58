"""Take the guides' pictures of a running page, by day and, of the first one, by night.

    hptwin demo --folder demo
    hptwin report --month 2026-01 --results demo/state/results -c demo/plant.toml
    python docs/guide/pictures.py http://127.0.0.1:8080 report-2026-01.html docs/guide

Chromium takes them, as in the tests of the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# What somebody cleaned and had closed is the one form that a guide explains.
_ALARM = '[data-key="hp1/fouling/condenser"]'
_MARGIN, _TALLEST = 8.0, 580.0
_DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
    .every(place => place.getAttribute('aria-busy') === 'false')"""


def take(browser: Browser, url: str, report: Path, folder: Path) -> list[Path]:
    """Write the five pictures into a folder, and return their paths.

    Parameters
    ----------
    browser : Browser
        Chromium, running.
    url : str
        Of a page whose hp1 has a fouled condenser, such as the demo's.
    report : Path
        What ``hptwin report`` wrote.
    folder : Path
        Where they are written; what is there is replaced.
    """
    seen = browser.new_context(
        viewport={"width": 1180, "height": 600}, color_scheme="light", locale="en-GB"
    )
    page = seen.new_page()
    names = ("page", "alarm", "causes", "sheet", "page-dark")
    made = [folder / f"{name}.png" for name in names]
    _open(page, url + "/")
    page.screenshot(path=made[0])
    page.emulate_media(color_scheme="dark")
    _open(page, url + "/")
    page.screenshot(path=made[4])
    page.emulate_media(color_scheme="light")
    _open(page, url + "/alarms")
    case = page.locator(_ALARM)
    case.locator("summary", has_text="Close").click()
    _part(page, case, made[1])
    _open(page, url + "/unit/hp1")
    _part(page, page.locator("#causes .fall"), made[2])
    page.goto(report.resolve().as_uri())
    _part(page, page.locator("article").first, made[3])
    seen.close()
    return made


def _part(page: Page, part: Locator, path: Path) -> None:
    """Write one part of a page with a margin; of a long one, its upper half."""
    box = part.bounding_box()
    assert box is not None  # noqa: S101  # it is on the page, or the locator waits
    page.screenshot(
        path=path,
        full_page=True,
        clip={
            "x": box["x"] - _MARGIN,
            "y": box["y"] - _MARGIN + page.evaluate("scrollY"),
            "width": box["width"] + 2 * _MARGIN,
            "height": min(box["height"], _TALLEST) + 2 * _MARGIN,
        },
    )


def _open(page: Page, address: str) -> None:
    """Open a page and wait until it is live and every chart is drawn."""
    page.goto(address)
    page.wait_for_selector("#line.on")
    page.wait_for_function(_DRAWN)


if __name__ == "__main__":
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=_FLAGS)
        take(chromium, sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        chromium.close()
