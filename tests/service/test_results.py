"""Results are the same bytes for the same content, and come back as they were."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sample_results
from hypothesis import given
from hypothesis import strategies as st

from twin.service.results import (
    COLUMNS,
    Live,
    Results,
    ResultsError,
    ResultsView,
    empty,
    in_order,
    plain,
    to_json,
)

FILES = [
    "attribution.parquet",
    "findings.json",
    "health.parquet",
    "kpis.parquet",
    "ledger.parquet",
    "summary.json",
]


def content(directory: Path) -> dict[str, bytes]:
    """Return the bytes of every file."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_writes_exactly_the_promised_files_and_the_same_bytes_twice(tmp_path: Path):
    """Made anew from the same seed, and read back and written again."""
    sample_results.results().write(tmp_path / "a")
    sample_results.results().write(tmp_path / "b")
    Results.read(tmp_path / "a").write(tmp_path / "c")

    assert list(content(tmp_path / "a")) == FILES
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "c")


def test_another_content_makes_other_bytes(tmp_path: Path):
    """The control: equality above is not for want of content."""
    sample_results.results(seed=4).write(tmp_path / "a")
    sample_results.results(seed=5).write(tmp_path / "b")

    assert (
        content(tmp_path / "a")["kpis.parquet"]
        != content(tmp_path / "b")["kpis.parquet"]
    )


def test_the_order_of_rows_columns_and_findings_does_not_matter(tmp_path: Path):
    """Whoever made it in parallel makes the same file."""
    one = sample_results.results()
    other = Results(
        site=one.site,
        generated=one.generated,
        findings=list(reversed(one.findings)),
        health=one.health.sample(frac=1, random_state=1)[one.health.columns[::-1]],
        ledger=one.ledger.iloc[::-1],
        kpis=one.kpis.sample(frac=1, random_state=2),
        attribution=one.attribution.iloc[::-1],
        models=one.models,
        summary=one.summary,
        latest=dict(reversed(one.latest.items())),
        expected=one.expected,
        data_quality=dict(reversed(one.data_quality.items())),
    )
    one.write(tmp_path / "a")
    other.write(tmp_path / "b")

    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_findings_come_back_as_they_were(tmp_path: Path):
    """Sizes, times and evidence survive the file."""
    one = sample_results.results()
    one.write(tmp_path)
    read = {finding.key: finding for finding in Results.read(tmp_path).findings}

    assert {finding.key: finding for finding in one.findings} == read


def test_an_empty_site_is_results_too(tmp_path: Path):
    """Nothing known yet is a state, not an error."""
    Results(site="new", generated=sample_results.NOW).write(tmp_path)
    read = Results.read(tmp_path)

    assert read.units() == []
    assert list(read.kpis.columns) == list(COLUMNS["kpis"])
    assert str(read.kpis["time"].dtype) == "datetime64[ms, UTC]"


def test_columns_that_nobody_knows_are_kept_with_their_type():
    """Text stays text, a flag becomes a number, and both stand at the end."""
    frame = pd.DataFrame(
        {
            "note": ["no meter", None],
            "basis": ["it_power_w", "sum"],
            "extra_j": [1, 2],
            "time": pd.date_range("2026-01-01", periods=2, tz="Europe/Copenhagen"),
            "unit": "site",
        }
    )
    ordered = in_order(frame, "ledger")

    assert list(ordered.columns)[-3:] == ["basis", "extra_j", "note"]
    assert ordered["note"].tolist() == ["no meter", ""]
    assert ordered["extra_j"].dtype == np.float64
    assert ordered["missed_j"].isna().all()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"unit": ["hp1"]}),
        pd.DataFrame({"unit": ["hp1"], "time": pd.to_datetime(["2026-01-01"])}),
        pd.DataFrame({"unit": ["hp1"], "time": pd.to_datetime([None], utc=True)}),
    ],
    ids=["none", "naive", "missing"],
)
def test_a_time_nobody_can_place_is_refused(frame):
    """A naive time is another hour on another machine."""
    with pytest.raises(ResultsError, match=r"time.*UTC|UTC"):
        in_order(frame, "kpis")


def test_results_from_before_a_table_was_kept_are_read(tmp_path: Path):
    """A service that comes back after an update reads what it wrote before it."""
    sample_results.results().write(tmp_path)
    (tmp_path / "attribution.parquet").unlink()
    read = Results.read(tmp_path)

    assert read.attribution.empty
    assert list(read.attribution.columns) == list(COLUMNS["attribution"])
    assert len(read.kpis)


@pytest.mark.parametrize("damage", ["missing", "torn", "foreign"])
def test_a_damaged_directory_is_named_with_the_way_out(tmp_path: Path, damage):
    """The page says which directory, and how one is made."""
    sample_results.results().write(tmp_path)
    if damage == "missing":
        (tmp_path / "kpis.parquet").unlink()
    elif damage == "torn":
        whole = (tmp_path / "findings.json").read_bytes()
        (tmp_path / "findings.json").write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / "summary.json").write_text("[]")

    with pytest.raises(ResultsError, match="hptwin replay --out"):
        Results.read(tmp_path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_whatever_it_is_becomes_json_without_nan(value):
    """A value that is not a number is null, as JSON has no other word."""
    text = to_json(value)

    assert "NaN" not in text.replace("'", "") or "NaN" in str(value)
    assert plain(value) == plain(plain(value))


def test_numpy_becomes_plain():
    """Arrays, scalars and not-a-times as well."""
    assert plain({"a": np.array([1.0, np.nan]), "b": np.float64(2), "c": pd.NaT}) == {
        "a": [1.0, None],
        "b": 2.0,
        "c": None,
    }


def test_live_keeps_the_newest_whatever_arrives_when():
    """A late value does not turn the clock of a point back."""
    live, now = Live(), sample_results.NOW
    live.update("hp1", "cop", 4.0, now)
    live.update("hp1", "cop", 9.0, now - timedelta(minutes=1))

    assert live.snapshot() == {"hp1": {"cop": (4.0, now)}}
    live.update("hp1", "cop", math.nan, now + timedelta(minutes=1))
    assert live.sequence == 2


def test_a_publication_is_a_new_revision():
    """A reader can tell whether there is news without comparing."""
    view = ResultsView(sample_results.results())
    first = view.revision
    view.publish(Results(site="x", generated=sample_results.NOW, kpis=empty("kpis")))

    assert (view.revision, view.results.site) == (first + 1, "x")
