"""The bench of fleets compares bytes, and its plants are what their seeds say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from twin.service.bench import fleet as bench
from twin.service.fleet import Member

HOW = bench.How(days=60, minutes=60)


def test_one_byte_or_file_more_or_less_is_seen(tmp_path: Path) -> None:
    """Of three plants one is equal; what nobody wrote is not."""
    named = [Member(name, tmp_path) for name in ("same", "byte", "file", "none")]
    for side in ("a", "b"):
        for name in ("same", "byte", "file"):
            (tmp_path / side / name).mkdir(parents=True)
            (tmp_path / side / name / "findings.json").write_bytes(b"[]")
    (tmp_path / "b/byte/findings.json").write_bytes(b"[ ]")
    (tmp_path / "b/file/more.json").write_bytes(b"")
    one, other = (bench.written(named, tmp_path / side) for side in ("a", "b"))

    assert bench.equal(one, one) == 3
    assert bench.equal(one, other) == 1


def test_a_plant_is_its_seed_s() -> None:
    """The same twice, others by other seeds; nothing is wrong while it is learnt."""
    one, two = bench.planned(1, HOW), bench.planned(2, HOW)

    assert one == bench.planned(1, HOW)
    assert one.faults != two.faults
    assert one.step == timedelta(minutes=60)
    for plan in (one, two):
        learnt = plan.start + plan.reference_length
        assert all(learnt <= fault.start < plan.stop for fault in plan.faults)


def rows(**wrong: object) -> list[dict[str, object]]:
    """Return what a run of two plants gave, as it should be but for what is said."""
    took = {"seconds": 10.0, "cpu_s": 9.0, "load_before": 0.0}
    truth = {"plant-1": {"findings.json": "aa"}, "plant-2": {"findings.json": "bb"}}
    one = [
        {"case": f"60 d, 60 min, {name} alone", **took, "sha256": files}
        for name, files in truth.items()
    ]
    killed = {"killed": "plant-1", "killed_at_day": 30, "begun": 2, "lost": 0}
    way = {**took, **killed, "sha256": truth, **wrong}
    control = {**way, "begun": 1, "lost": 2, **wrong}
    what = "60 d, 60 min, plant-1 to plant-2, 2 workers"
    return [
        *one,
        {"case": f"{what}: dask_killed", **way},
        {"case": f"{what}: control", **control},
    ]


def test_figures_are_sums_and_promises_can_break() -> None:
    """Two plants of ten seconds in ten: twice as fast; a fault breaks its promise."""
    figures, promises = bench.figures_of(rows(), HOW)

    assert all(promises.values())
    assert len(promises) == 3
    assert figures["one_by_one"]["seconds"] == 20.0
    assert figures["dask_killed"]["speed_up"] == 2.0
    assert figures["dask_killed"]["equal"] == 2
    other = {"plant-1": {"findings.json": "aa"}, "plant-2": {"findings.json": "b"}}
    for wrong, broken in (
        ({"sha256": other}, "dask_killed: every plant's bytes are equal"),
        ({"begun": 1}, "dask_killed: a worker was killed, and its plant went on"),
        ({"killed": ""}, "dask_killed: a worker was killed, and its plant went on"),
        ({"lost": 0}, "the control loses plants"),
    ):
        _, promises = bench.figures_of(rows(**wrong), HOW)
        assert not promises[broken]
