"""The shipped Kustomize overlays, built by kubectl, and what a pod of them would see.

Objects are plain dictionaries, as the API server gets them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from origin.config import OriginConfig
from wire.settings import load

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2] / "infra" / "kubernetes"
OVERLAYS = ("origin", "eu-west", "us-east", "laptop")
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
KINDS: Mapping[str, type[Any]] = {
    "origin": OriginConfig,
    "edge": EdgeConfig,
    "worker": WorkerConfig,
}
SECTIONS = {"origin": "origin", "edge": "edge", "node-cache": "edge", "worker": "worker"}
"""The table of the configuration that a component reads."""
FROM_OUTSIDE = "given-by-the-cluster"
"""What stands for a value that only a cluster knows."""
_VARIABLE = re.compile(r"\$\(([A-Z_]+)\)")
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6}
_UNITS |= {"G": 10**9, "T": 10**12}
T = TypeVar("T")


@cache
def _text(folder: Path) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return done.stdout


@cache
def _parsed(folder: Path) -> tuple[Object, ...]:
    return tuple(yaml.load_all(_text(folder), Loader=yaml.CSafeLoader))


def build(folder: Path) -> list[Object]:
    """The objects of an overlay, fresh ones that a test may spoil."""
    return [_copy(found) for found in _parsed(folder)]


def overlay(name: str) -> list[Object]:
    """A shipped one."""
    return build(ROOT / "overlays" / name)


def _copy(value: T) -> T:
    """Much faster than copy.deepcopy, for what JSON can hold."""
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_copy(inner) for inner in value]  # type: ignore[return-value]
    return value


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object; generated names may have their hash left out."""
    pattern = re.compile(rf"{re.escape(name)}(-[0-9a-z]{{10}})?\Z")
    (found,) = [o for o in of_kind(objects, kind) if pattern.fullmatch(o["metadata"]["name"])]
    return found


def name_of(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class Pod:
    """The template of a workload's pods."""

    workload: Object

    @property
    def name(self) -> str:
        return name_of(self.workload)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.workload["spec"]["template"]["metadata"]["labels"])

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.workload["spec"]["template"]["metadata"].get("annotations", {}))

    @property
    def spec(self) -> Object:
        spec: Object = self.workload["spec"]["template"]["spec"]
        return spec

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def container(self) -> Object:
        """The one that serves."""
        (container,) = self.spec["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    def volume(self, name: str) -> Object | None:
        found = [v for v in self.spec.get("volumes", []) if v["name"] == name]
        return found[0] if found else None


def pods(objects: list[Object]) -> list[Pod]:
    return [Pod(found) for found in objects if found["kind"] in WORKLOADS]


def pod(objects: list[Object], name: str) -> Pod:
    (found,) = [p for p in pods(objects) if p.workload["metadata"]["name"] == name]
    return found


def tiers(objects: list[Object]) -> list[Pod]:
    """The pods that run our programs."""
    return [found for found in pods(objects) if found.component in SECTIONS]


def image_variables(found: Pod) -> dict[str, str]:
    """What the image of a tier presets, by its Dockerfile."""
    section = SECTIONS[found.component]
    text = (ROOT.parent / "docker" / f"{section}.Dockerfile").read_text()
    return dict(re.findall(r"\b(HEADWATER_\w+)=(\S+)", text))


def environment(
    objects: list[Object], found: Pod, preset: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables of the serving container. What a Secret or the cluster gives is a stand-in.

    Args:
        preset: by the image.
    """
    values = dict(preset or {})
    for source in found.container.get("envFrom", []):
        values |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for entry in found.container.get("env", []):
        if "value" in entry:
            values[entry["name"]] = _VARIABLE.sub(lambda m: values[m[1]], entry["value"])
        elif not entry["valueFrom"].get("secretKeyRef", {}).get("optional"):
            values[entry["name"]] = FROM_OUTSIDE
    return values


def configuration(
    objects: list[Object],
    found: Pod,
    folder: Path,
    *,
    preset: Mapping[str, str] | None = None,
    shared: bool = True,
) -> Any:
    """What the tier's own loader makes of the pod's file and variables.

    Args:
        folder: for the file.
        preset: variables of the image.
        shared: with the pod's variables, as it runs; else the file alone.
    """
    section = SECTIONS[found.component]
    volume = found.volume("config")
    assert volume is not None
    text = named(objects, "ConfigMap", volume["configMap"]["name"])["data"]["headwater.toml"]
    file = folder / f"{found.workload['metadata']['name']}.toml"
    file.write_text(text)
    environ = environment(objects, found, preset) if shared else {}
    return load(section, KINDS[section], file=file, environ=environ)


def mounted(found: Pod, path: str) -> Object:
    """The volume (or claim) under which a path of the serving container lies."""
    mounts = sorted(found.container["volumeMounts"], key=lambda m: -len(m["mountPath"]))
    mount = next(m for m in mounts if Path(path).is_relative_to(m["mountPath"]))
    claims = found.workload["spec"].get("volumeClaimTemplates", [])
    claim = [c for c in claims if c["metadata"]["name"] == mount["name"]]
    if claim:
        return {"claim": claim[0]["spec"]}
    volume = found.volume(mount["name"])
    assert volume is not None, f"{found.name}: no volume {mount['name']}"
    return volume


def bytes_of(quantity: str) -> int:
    """A quantity of Kubernetes, ``44Gi``, in bytes."""
    match = re.fullmatch(r"(\d+)([A-Za-z]*)", str(quantity))
    assert match is not None, quantity
    return int(match[1]) * _UNITS[match[2]]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


Check = Callable[[list[Object]], Iterator[str]]
"""Finds what is wrong with the objects of an overlay, in words."""
