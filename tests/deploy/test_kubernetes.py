"""The manifests as kustomize renders them: valid, restricted, and to each its own.

No cluster runs here: nothing is applied. The schemas say whether each object is one;
that selectors, volumes and shards fit together is worked out here.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import servers
import yaml

from twin.service.config import load

FOLDER = servers.MOSQUITTO_CONF.parent / "kubernetes"
OVERLAYS = ("example", "sharded")
Thing = dict[str, Any]


@functools.cache
def text_of(overlay: str) -> str:
    """Return what kustomize makes of an overlay."""
    folder = FOLDER / "overlays" / overlay
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        # Debian's is too old for these overlays, so CI cannot be asked to have it.
        pytest.skip("kubectl is not installed here; the manifests are not rendered")
    command = [kubectl, "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(overlay: str, kind: str = "") -> list[Thing]:
    """Return its objects, of one kind or all of them."""
    every = yaml.safe_load_all(text_of(overlay))
    return [thing for thing in every if kind in ("", thing["kind"])]


def pods(overlay: str) -> list[tuple[str, Thing]]:
    """Return the templates of pods, each with the name of whose it is."""
    found = []
    for thing in rendered(overlay):
        if thing["kind"] == "StatefulSet":
            found.append((thing["metadata"]["name"], thing["spec"]["template"]))
        if thing["kind"] == "CronJob":
            job = thing["spec"]["jobTemplate"]
            found.append((thing["metadata"]["name"], job["spec"]["template"]))
    return found


def selects(labels: Thing, wanted: Thing) -> bool:
    """Say whether a selector's matchLabels choose these labels."""
    return wanted.items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_one(overlay: str, tmp_path: Path) -> None:
    """By the schemas of the newest version, strictly: a misspelt field is found."""
    tool = servers.program("kubernetes-validate")

    def valid(text: str) -> bool:
        file = tmp_path / "all.yaml"
        file.write_text(text, "utf-8")
        command = [tool, "--strict", "--quiet", str(file)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert valid(text_of(overlay))
    assert not valid(text_of(overlay).replace("livenessProbe:", "aliveProbe:"))


def broken_rules(template: Thing) -> list[str]:
    """Return the rules of the restricted standard that a pod breaks."""
    spec = template["spec"]
    whole = spec.get("securityContext", {})
    broken = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if whole.get("runAsNonRoot") is not True or not whole.get("runAsUser"):
        broken.append("runAsNonRoot")
    if whole.get("seccompProfile", {}).get("type") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        broken.append("seccompProfile")
    allowed = {"configMap", "secret", "persistentVolumeClaim", "emptyDir", "projected"}
    broken += [
        f"volume {volume['name']}"
        for volume in spec["volumes"]
        if not (volume.keys() - {"name"}) <= allowed
    ]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            broken.append("allowPrivilegeEscalation")
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            broken.append("capabilities")
        if own.get("privileged") or own.get("runAsUser") == 0:
            broken.append("privileged")
        broken += [
            "hostPort" for port in container.get("ports", []) if "hostPort" in port
        ]
    return broken


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_restricted(overlay: str) -> None:
    """As the namespace demands; and more: no token, no root to write on."""
    [namespace] = rendered(overlay, "Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, template in pods(overlay):
        assert broken_rules(template) == []
        assert template["spec"]["automountServiceAccountToken"] is False
        spec = template["spec"]
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {v["name"] for v in template["spec"]["volumes"]}
    # The control.
    template["spec"]["securityContext"]["runAsNonRoot"] = False
    template["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    assert broken_rules(template) == ["runAsNonRoot", "volume host"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_selector_chooses_its_own_shard_and_no_other(overlay: str) -> None:
    """Service, network policy, the twin itself, and where its backup must go."""
    twins = {t["metadata"]["name"]: t for t in rendered(overlay, "StatefulSet")}
    labels = {name: template["metadata"]["labels"] for name, template in pods(overlay)}
    assert len(twins) == {"example": 1, "sharded": 2}[overlay]
    for name, twin in twins.items():
        shard = name.removeprefix("hptwin")
        assert twin["spec"]["replicas"] == 1

        def chosen(wanted: Thing) -> set[str]:
            return {pod for pod, own in labels.items() if selects(own, wanted)}

        assert chosen(twin["spec"]["selector"]["matchLabels"]) == {name}
        [service] = [
            s for s in rendered(overlay, "Service") if s["metadata"]["name"] == name
        ]
        assert chosen(service["spec"]["selector"]) == {name}
        assert service["spec"]["publishNotReadyAddresses"] is True
        for policy in rendered(overlay, "NetworkPolicy"):
            if policy["metadata"]["name"] in (name, f"hptwin-backup{shard}"):
                wanted = policy["spec"]["podSelector"]["matchLabels"]
                assert chosen(wanted) == {policy["metadata"]["name"]}
        [backup] = [t for pod, t in pods(overlay) if pod == f"hptwin-backup{shard}"]
        [near] = backup["spec"]["affinity"]["podAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert chosen(near["labelSelector"]["matchLabels"]) == {name}
        ours = {v["name"]: v for v in twin["spec"]["template"]["spec"]["volumes"]}
        theirs = {v["name"]: v for v in backup["spec"]["volumes"]}
        for volume in ("data", "plant", "secrets"):
            assert ours[volume] == theirs[volume]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_mounted_is_made_or_said_to_be_yours(overlay: str) -> None:
    """Claims and ConfigMaps are in it; the Secret is named in words how to make it."""
    made = {(thing["kind"], thing["metadata"]["name"]) for thing in rendered(overlay)}
    assert not any(kind == "Secret" for kind, _ in made)
    for _, template in pods(overlay):
        for volume in template["spec"]["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in made
            if "secret" in volume:
                # Nobody else may read it: 0440 with the group of the pod.
                assert volume["secret"]["defaultMode"] == 0o440
    said = (FOLDER / "overlays" / "example" / "kustomization.yaml").read_text("utf-8")
    told = set(re.findall(r"--from-file=(\S+)", said))
    plant = (FOLDER / "overlays" / "example" / "plant.toml").read_text("utf-8")
    [first] = [
        each
        for _, template in pods("example")
        for each in template["spec"].get("initContainers", [])
    ]
    asked = [
        w.removeprefix("/run/secrets/") for w in first["command"] if "secrets" in w
    ]
    assert asked == ["admin.password"]
    assert told == {*re.findall(r'"/run/secrets/([^"]+)"', plant), *asked}


def test_names_are_asked_of_the_clusters_own_server() -> None:
    """Labels that kustomize adds to selectors would leave nobody to ask."""
    for policy in rendered("sharded", "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if "podSelector" in peer:
                    assert peer["podSelector"] == {
                        "matchExpressions": [
                            {"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}
                        ]
                    }


def test_the_kubelet_asks_by_a_name_that_the_page_answers_to() -> None:
    """By the pod's address it would be turned away; and death is not unreadiness."""
    [twin] = rendered("example", "StatefulSet")
    [container] = twin["spec"]["template"]["spec"]["containers"]
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "liveness")
    }
    for asked in paths.values():
        assert asked["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
        assert asked["path"] == "/healthz"
    # Who is not on the machine is not told the reasons without a login; the pod
    # asks itself, as the image does.
    command = container["readinessProbe"]["exec"]["command"]
    image = (FOLDER.parent / "Dockerfile").read_text("utf-8")
    assert json.dumps(command) in image


PLANTS = sorted(FOLDER.rglob("plant.toml"))


@pytest.mark.parametrize("file", PLANTS, ids=lambda file: file.parent.name)
def test_its_plant_is_one_that_the_service_reads(file: Path, tmp_path: Path) -> None:
    """With secrets in place there is not a word to say against it."""
    text = file.read_text("utf-8")
    for name in re.findall(r'"/run/secrets/([^"]+)"', text):
        (tmp_path / name).write_text("hush", "utf-8")
        (tmp_path / name).chmod(0o440)
    here = tmp_path / "plant.toml"
    here.write_text(text.replace("/run/secrets/", f"{tmp_path}/"), "utf-8")
    assert load(here, {}).warnings == ()


def test_shards_share_neither_a_queue_nor_a_machine() -> None:
    """Each its own client id and user at the broker, each its own machines."""
    shards = [
        tomllib.loads(file.read_text("utf-8"))
        for file in PLANTS
        if file.parent.parent.name == "sharded"
    ]
    assert len(shards) == 2
    for key in ("client_id", "username"):
        assert len({shard["mqtt"][key] for shard in shards}) == 2
    machines = [m["id"] for shard in shards for m in shard["heat_pump"]]
    assert len(set(machines)) == len(machines)
    secrets = {
        v["secret"]["secretName"]
        for _, template in pods("sharded")
        for v in template["spec"]["volumes"]
        if "secret" in v
    }
    assert secrets == {"hptwin-north", "hptwin-south"}
