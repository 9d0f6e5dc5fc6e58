"""Image and compose file, held to what can be held without an engine.

None runs here: nothing is built or started. The linter and the specification say
whether the files are well formed; that names, ports, files and users fit together
is worked out here, and what the containers are given is given to the real broker.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import servers
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ingest.broker import BrokerError, Publisher, probe
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service

DEPLOY = servers.MOSQUITTO_CONF.parent
ROOT = DEPLOY.parent
DOCKERFILE = DEPLOY / "Dockerfile"
FOLDER = DEPLOY / "compose"
COMPOSE = FOLDER / "compose.yaml"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool."""
    return subprocess.run(
        [servers.program(name), *arguments], capture_output=True, text=True, check=False
    )


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(w[0], w[1]) for line in lines if (w := line.strip().split(None, 1))]


def compose() -> dict[str, Any]:
    """Return the compose file, anchors followed."""
    made: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return made


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


# --- the image ---------------------------------------------------------------


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    """And would: an image without a tag is one that changes by itself."""
    done = run("hadolint", str(DOCKERFILE))
    assert (done.returncode, done.stdout) == (0, "")
    loose = tmp_path / "Dockerfile"
    text = DOCKERFILE.read_text("utf-8")
    loose.write_text(re.sub(r"(FROM python):\S+", r"\1", text), "utf-8")
    assert "DL3006" in run("hadolint", str(loose)).stdout


def test_everything_that_is_copied_is_there_and_sent() -> None:
    """To the builder goes what the image is made of, and nothing else."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            copied |= {p for p in rest.split()[:-1] if not p.startswith("--")}
    assert "*" in ignored
    assert copied == sent
    assert all((ROOT / path).exists() for path in copied)


def test_it_is_nobody_and_takes_nothing_without_a_hash() -> None:
    """The Python is the one of the lock, and the user is a number."""
    words = instructions()
    users = [rest for word, rest in words if word == "USER"]
    assert users[-1] == "10001:10001"
    pips = [
        each
        for word, rest in words
        if word == "RUN"
        for each in rest.split("&&")
        if re.search(r"pip (install|wheel|download)", each)
    ]
    assert len(pips) == 4
    for each in pips:
        assert "--require-hashes" in each or "--no-index" in each or (
            "--no-build-isolation" in each and "--no-deps" in each
        )  # fmt: skip
    for name in ("requirements.lock", "build.lock"):
        python = re.search(r"on Python (\S+),", (DEPLOY / name).read_text("utf-8"))
        assert python is not None
        for word, rest in words:
            if word == "FROM":
                assert rest.startswith(f"python:{python[1]}.")


def test_the_locks_hold_what_is_needed() -> None:
    """Every dependency of the project and of its build, each with a hash."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    postgres = project["project"]["optional-dependencies"]["postgres"]
    for name, wanted in (
        ("requirements.lock", project["project"]["dependencies"] + postgres),
        ("build.lock", project["build-system"]["requires"]),
    ):
        text = (DEPLOY / name).read_text("utf-8")
        locked = dict(re.findall(r"^(\S+)==(\S+) \\\n +--hash=sha256:", text, re.M))
        for requirement in map(Requirement, wanted):
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the secrets of the compose example, by its own command."""
    servers.program("openssl")
    if os.geteuid():
        pytest.skip("files cannot be given to the containers' users; run it as root")
    folder = tmp_path_factory.mktemp("prepared") / "secrets"
    command = [sys.executable, str(FOLDER / "prepare.py"), "--into", str(folder)]
    command += ["--name", "twin.example.org"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is there already" in again.stderr
    return folder


@pytest.fixture(scope="module")
def broker(
    secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run a mosquitto with the shipped files and the prepared secrets.

    Paths and ports are others; the names in the certificate are not.
    """
    folder = tmp_path_factory.mktemp("broker")
    near, far = servers.free_port(), servers.free_port()
    text = servers.MOSQUITTO_CONF.read_text("utf-8")
    for ours, here in (
        ("listener 1883 ", f"listener {near} "),
        ("listener 8883\n", f"listener {far} 127.0.0.1\n"),
        ("/etc/mosquitto/hptwin.passwd", f"{secrets}/mosquitto/hptwin.passwd"),
        ("/etc/mosquitto/hptwin.acl", f"{DEPLOY}/mosquitto.acl"),
        ("/etc/mosquitto/certs/", f"{secrets}/mosquitto/"),
        ("/var/lib/mosquitto/", f"{folder}/"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    (folder / "mosquitto.conf").write_text(f"{text}\nuser root\n", "utf-8")
    command = [servers.program("mosquitto"), "-c", str(folder / "mosquitto.conf")]
    server = servers.Server(command, far, folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def plant(secrets: Path, tmp_path: Path) -> Path:
    """Return the example's plant.toml with the secrets where they are here."""
    text = (FOLDER / "plant.toml").read_text("utf-8")
    assert "/run/secrets/" in text
    file = tmp_path / "plant.toml"
    file.write_text(text.replace("/run/secrets/", f"{secrets}/hptwin/"), "utf-8")
    return file


def test_the_service_comes_in_by_what_was_prepared(
    broker: servers.Server, plant: Path, secrets: Path, tmp_path: Path
) -> None:
    """A real broker, TLS both ways, a hashed password; the gateway's goes, too.

    Then the image's own health check is asked of the real service.
    """
    config = load(plant, {})
    assert config.warnings == ()
    ours = replace(config.mqtt, host="localhost", port=broker.port, protocol="5")
    seen = probe(ours, ["plant/gateway1/hp1"], 0.3)
    assert (seen.problem, seen.refused) == ("", ())
    gateway = replace(
        ours,
        client_id="gateway1",
        username="gateway1",
        password_file=secrets / "gateway1" / "mqtt.password",
        cert_file=secrets / "gateway1" / "gateway1.crt",
        key_file=secrets / "gateway1" / "gateway1.key",
    )
    with Publisher(gateway) as publisher:
        publisher.publish("plant/gateway1/hp1", json.dumps({"t_src_in": 34.9}))
    wrong = replace(gateway, password_file=secrets / "hptwin" / "mqtt.password")
    with Publisher(wrong) as publisher, pytest.raises(BrokerError):
        publisher.publish("plant/gateway1/hp1", "{}", timeout=1.0)

    [check] = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    words = json.loads(check.partition("CMD ")[2])
    assert words[0] == "python"
    running = replace(
        config,
        mqtt=replace(config.mqtt, host="localhost", port=broker.port),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=tmp_path / "state",
        web=WebConfig(port=0),
    )

    def healthy(port: int) -> bool:
        command = [sys.executable, *(w.replace("8080", str(port)) for w in words[1:])]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    with Service(running) as service:
        end = time.monotonic() + 20.0
        while service.problems() and time.monotonic() < end:
            time.sleep(0.05)
        assert healthy(service.page.port)
        broker.stop()
        while not service.problems() and time.monotonic() < end:
            time.sleep(0.05)
        assert not healthy(service.page.port)
        broker.start()


def test_secrets_are_their_owners_own(secrets: Path) -> None:
    """Each folder belongs to the user that its container runs as, and to no other."""
    users = {
        name: int(str(SERVICES[name]["user"]).split(":")[0])
        for name in ("mosquitto", "influxdb")
    }
    users["hptwin"] = int(
        next(rest for word, rest in instructions() if word == "USER").split(":")[0]
    )
    users["grafana"] = 472
    for path in secrets.rglob("*"):
        mode = path.stat().st_mode
        assert stat.S_IMODE(mode) == (0o700 if path.is_dir() else 0o400)
        owner = users.get(path.relative_to(secrets).parts[0], 0)
        assert path.stat().st_uid == owner
    text = (secrets / "mosquitto" / "hptwin.passwd").read_text("utf-8")
    for who in ("hptwin", "gateway1"):
        assert (secrets / who / "mqtt.password").read_text("utf-8") not in text
        subject = run(
            "openssl", "x509", "-noout", "-subject",
            "-in", str(secrets / who / f"{who}.crt"),
        )  # fmt: skip
        assert f"CN = {who}" in subject.stdout
    named = run(
        "openssl", "x509", "-noout", "-ext", "subjectAltName",
        "-in", str(secrets / "mosquitto" / "server.crt"),
    )  # fmt: skip
    assert "DNS:mosquitto" in named.stdout
    assert "DNS:twin.example.org" in named.stdout


# --- compose -----------------------------------------------------------------


def test_it_is_a_compose_file(tmp_path: Path) -> None:
    """By the specification's schema; a misspelt key is found."""
    check = ("--builtin-schema", "vendor.compose-spec")
    assert run("check-jsonschema", *check, str(COMPOSE)).returncode == 0
    wrong = tmp_path / "compose.yaml"
    text = COMPOSE.read_text("utf-8").replace("depends_on:", "depends_upon:")
    wrong.write_text(text, "utf-8")
    assert run("check-jsonschema", *check, str(wrong)).returncode != 0


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a service's mounts: what, and where."""
    return [tuple(text.split(":")[:2]) for text in service.get("volumes", [])]  # type: ignore[misc]


def unknown(made: dict[str, Any]) -> list[str]:
    """Return the names in a compose file that name nothing."""
    wrong: list[str] = []
    for name, service in made["services"].items():
        wrong += set(service.get("depends_on", [])) - set(made["services"])
        wrong += set(service.get("networks", [])) - set(made["networks"])
        wrong += {each["source"] for each in service.get("secrets", [])} - set(
            made["secrets"]
        )
        for source, target in mounts(service):
            if not source.startswith("."):
                wrong += {source} - set(made["volumes"])
            elif "secrets" not in source and not (FOLDER / source).exists():
                wrong.append(source)
            if not target.startswith("/"):
                wrong.append(f"{name}: {target}")
    used = {
        each["source"]
        for service in made["services"].values()
        for each in service.get("secrets", [])
    }
    wrong += set(made["secrets"]) - used
    return wrong


def test_every_name_in_it_names_something(secrets: Path) -> None:
    """Services, networks, volumes, secrets, files; and a wrong one is found."""
    made = compose()
    assert unknown(made) == []
    made["services"]["hptwin"]["depends_on"] = ["mosquito"]
    assert unknown(made) == ["mosquito"]
    prepared = [
        source
        for service in SERVICES.values()
        for source, _ in mounts(service)
        if "secrets" in source
    ] + [each["file"] for each in compose()["secrets"].values()]
    for path in prepared:
        assert (secrets / path.removeprefix("./").removeprefix("secrets")[1:]).exists()


def test_each_container_may_do_as_little_as_it_can() -> None:
    """Nothing may be gained, the root is not written, and images are what they were."""
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), name
        assert not service.get("privileged")
        assert not any("docker.sock" in source for source, _ in mounts(service))
    assert SERVICES["owner"]["cap_add"] == ["CHOWN"]
    assert SERVICES["owner"]["network_mode"] == "none"


def test_only_the_brokers_door_is_open_to_the_network() -> None:
    """Everything else is published to this machine alone."""
    ports = {n: s["ports"] for n, s in SERVICES.items() if "ports" in s}
    assert ports.pop("mosquitto") == ["8883:8883"]
    for published in ports.values():
        assert all(port.startswith("127.0.0.1:") for port in published)


def test_who_is_called_is_who_is_there() -> None:
    """Broker, database, Prometheus and the twin by the names that compose gives."""
    config = (FOLDER / "plant.toml").read_text("utf-8")
    scrape = (DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    sources = (DEPLOY / "grafana/provisioning/datasources/hptwin.yaml").read_text()
    called = re.findall(r'host = "([a-z]+)"', config)
    called += re.findall(r"//([a-z]+):\d+", config + sources)
    called += re.findall(r'"([a-z]+):\d+"', scrape)
    assert set(called) == {"mosquitto", "influxdb", "hptwin", "prometheus"}
    assert set(called) <= set(SERVICES)
    targets = {target for _, target in mounts(SERVICES["grafana"])}
    provider = DEPLOY / "grafana/provisioning/dashboards/hptwin.yaml"
    document = yaml.safe_load(provider.read_text("utf-8"))
    assert document["providers"][0]["options"]["path"] in targets
    environment = [rest for word, rest in instructions() if word == "ENV"][-1]
    values = [pair.partition("=")[2] for pair in shlex.split(environment)]
    written = {Path(value).parts[3] for value in values if value.startswith("/var/")}
    assert written == {"hptwin"}
    given = {target for _, target in mounts(SERVICES["hptwin"])}
    assert {"/var/lib/hptwin", "/var/cache/hptwin"} <= given
