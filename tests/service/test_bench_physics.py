"""The benchmark measures what it says, and checks any table of solved points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twin import cycle, fluids
from twin.service.bench import physics

NAME = "R134a"


def table(n=4):
    """Return points of our own machine in the format of the reference file."""
    machine = physics._machine(NAME)
    rows = physics._peer_points(n)
    y, why = cycle.solve(rows, machine.to_array(), 0, fluids.refrigerant(NAME).tables)
    assert not why.any()
    values = machine.to_dict()
    frame = pd.DataFrame({"fluid": [NAME] * n})
    for place, column in enumerate(
        ("T_si", "m_s", "T_ki", "m_k", "nr", "cp_s", "cp_k")
    ):
        frame[column] = rows[:, place]
    for ours, theirs in physics.REFERENCE_PARAMETERS.items():
        frame[theirs] = values[ours]
    for column, place in physics._REFERENCE_OUTPUTS.items():
        frame[column] = y[:, place]
    frame["COP"] = y[:, cycle.Y_QC] / y[:, cycle.Y_W]
    return frame


def test_a_table_is_checked_row_by_row(tmp_path):
    """A right one has no error; a wrong digit is the error that is reported."""
    path = tmp_path / "points.csv"
    table().to_csv(path, index=False)
    right = physics.run(path)
    wrong = table()
    wrong.loc[1, "COP"] *= 1.001
    wrong.loc[2, "T_so"] += 0.25
    wrong.loc[3, "p_c"] *= 0.99
    wrong.to_csv(path, index=False)
    found = physics.run(path)

    assert (right["rows"], right["solved"]) == (4, 4)
    assert right["max_cop_error"] < 1e-7
    assert found["max_cop_error"] == pytest.approx(1e-3, rel=1e-2)
    assert found["max_temp_error_k"] == pytest.approx(0.25, rel=1e-6)
    assert found["max_pressure_error"] == pytest.approx(1.0 / 99.0, rel=1e-2)


def test_rows_without_an_answer_are_listed(tmp_path):
    """With their number and why, and the rest is still checked."""
    path = tmp_path / "points.csv"
    frame = table()
    frame.loc[0, "m_k"] = 0.0
    frame.loc[1, "fluid"] = "R744"
    frame.to_csv(path, index=False)
    found = physics.run(path)

    assert (found["rows"], found["solved"]) == (4, 2)
    assert [row["row"] for row in found["unsolved"]] == [0, 1]
    assert found["unsolved"][0]["reason"] == "NO_FLOW"
    assert "critical point" in found["unsolved"][1]["reason"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column fluid"),
        ("", "cannot be read as CSV"),
        (None, "cannot be read as CSV"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, says):
    """An empty, foreign or absent file: one sentence, no traceback."""
    path = tmp_path / "points.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(physics.ReferenceTableError, match=says):
        physics.run(path)


def test_the_peers_agree_and_are_slower():
    """CoolProp with scipy, and TESPy where installed: COP within 1e-6 and 1e-4."""
    found = physics.run(
        states=4000, random_states=2400, long_states=4000, peer_states=5
    )

    assert found["unconverged_fraction"] == 0.0
    assert found["unflagged_failures"] == 0
    assert found["heos_converged"] >= 4
    assert found["max_cop_difference_to_heos"] < 1e-6
    assert found["ratio_to_heos"] > 1.0
    assert sum(found["reasons"].values()) == found["random_states"] == 2400
    assert np.isfinite(found["series_states_per_s"])
    if found["ratio_to_tespy"] is None:
        assert "TESPy" in found["notes"][0]
        pytest.skip("TESPy is not installed")
    assert found["tespy_converged"] >= 4
    assert found["max_cop_difference_to_tespy"] < 1e-4
    assert found["ratio_to_tespy"] > 1.0


def test_nowhere_to_keep_compiled_code_is_no_reason_not_to_run(tmp_path):
    """A read-only image compiles again in each process, and says nothing."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = "from twin import cycle; print(round(cycle._log(2.0), 6))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"NUMBA_CACHE_DIR": str(blocked / "below")},
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "0.693147"
