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
