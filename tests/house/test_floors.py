"""Nobody passes a floor or a giant by another door.

import-linter proves this on the import graph. It knows only modules that are
imported somewhere, so the doors, and what no module may do, are read here from
the syntax trees, which see lazy imports too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("twin", "ingest", "calibration")

# giant: who may import it, as a module or the package that holds it
DOORS = {
    "CoolProp": ("twin.fluids", "twin.service.bench"),
    "paho": ("ingest.broker",),
    "influxdb_client": ("ingest.archive.influx",),
    "google": ("ingest.sparkplug",),
    "sklearn": ("calibration.correction",),
    "skops": ("calibration.correction",),
    "apscheduler": ("twin.service.run",),
    "sqlalchemy": ("twin.service.state",),
    "psycopg": (),  # SQLAlchemy's own business
    "pint": ("twin.units",),
    "apprise": ("twin.service.notify",),
    "fastapi": ("twin.service.web",),
    "distributed": ("twin.service.executors", "twin.service.bench"),
    "dask": (),
}
FORBIDDEN_MODULES = {"pickle", "shelve", "marshal", "dill", "joblib"}


def modules() -> dict[str, str]:
    """Return the source of every module of the product, by its name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the name of every module that is imported, lazily or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def trespasses(name: str, source: str) -> list[str]:
    """Return each import of a giant by a module that is not its door."""
    found = []
    for imported in imports(ast.parse(source)):
        doors = DOORS.get(imported.split(".")[0])
        if doors is None:
            continue
        if not any(name == door or name.startswith(f"{door}.") for door in doors):
            found.append(f"{name} imports {imported}")
    return found


def dangers(name: str, source: str) -> list[str]:
    """Return each use of what may run foreign code, or read a clock too deep."""
    found = []
    tree = ast.parse(source)
    for imported in imports(tree):
        if imported.split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"{name} imports {imported}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        where = f"{name}:{node.lineno} {called}"
        if called in {"eval", "exec", "os.system", "os.popen"}:
            found.append(where)
        if called in {"yaml.load", "pd.read_pickle", "pandas.read_pickle"}:
            found.append(where)
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg in {"shell", "allow_pickle"} and not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                found.append(f"{where}({keyword.arg}=...)")
        if name.startswith("twin.service") or name.startswith("ingest"):
            continue
        if called.endswith(("datetime.now", "datetime.utcnow", "date.today")):
            found.append(where)
        if called in {"time.time", "time.time_ns"}:
            found.append(where)
    return found


def test_each_giant_has_one_door() -> None:
    """Only its own module imports CoolProp, paho, InfluxDB and the others."""
    assert [x for name, text in modules().items() for x in trespasses(name, text)] == []


def test_nothing_runs_foreign_code_or_reads_a_clock_too_deep() -> None:
    """No pickle, eval or shell; `now` is an argument below the service."""
    assert [x for name, text in modules().items() for x in dangers(name, text)] == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("twin.cycle", "import CoolProp"),
        ("twin.states", "def f():\n    from CoolProp.CoolProp import PropsSI"),
        ("calibration.fit", "from sklearn.linear_model import Ridge"),
        ("ingest.brokers", "import paho.mqtt.client"),
        ("twin.service.config", "import pint"),
    ],
)
def test_a_planted_trespass_is_seen(name: str, source: str) -> None:
    """The rule can fail: lazily, by a like name, or from inside the service."""
    assert trespasses(name, source)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "np.load(path, allow_pickle=True)",
        "from joblib import load",
        "datetime.now(UTC)",
        "datetime.datetime.now()",
        "time.time()",
    ],
)
def test_a_planted_danger_is_seen(source: str) -> None:
    """The rule can fail for each thing it forbids."""
    assert dangers("twin.cycle", source)


def test_the_door_and_the_service_may() -> None:
    """The controls: a door imports its giant, the service may read the clock."""
    assert trespasses("twin.fluids", "import CoolProp") == []
    assert trespasses("twin.service.bench.physics", "import CoolProp") == []
    assert dangers("twin.service.run", "datetime.now(UTC)") == []
    assert dangers("twin.cycle", "np.load(path, allow_pickle=False)") == []
