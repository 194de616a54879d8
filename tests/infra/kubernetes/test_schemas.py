"""Every object is one, by the schemas of the Kubernetes versions that are about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.fakes.kubernetes import OVERLAYS, ROOT, Object, build, name_of, named, overlay, pod
from tests.fakes.kubernetes_crds import SCHEMAS

OLDEST, NEWEST = "1.30", "1.37"
BETWEEN = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
EXAMPLES = frozenset({"external-secrets"})
"""Components that no shipped overlay uses."""


def unlike(objects: Iterable[Object]) -> list[Object]:
    """Those that Kubernetes itself knows, each once."""
    texts = {json.dumps(o, sort_keys=True): o for o in objects if o["kind"] not in SCHEMAS}
    return list(texts.values())


def everything() -> list[Object]:
    return unlike(found for name in OVERLAYS for found in overlay(name))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_valid(version: str) -> None:
    """Strictly: a field that the version does not know is refused, and not dropped in silence."""
    for found in everything():
        assert kubernetes_validate.validate(found, version, strict=True) == version, name_of(found)


@pytest.mark.parametrize("version", BETWEEN)
def test_every_kind_is_valid_in_the_versions_between(version: str) -> None:
    """Of each kind the object that says most; all of them would take seconds for each version."""
    most: dict[str, Object] = {}
    for found in sorted(everything(), key=lambda o: len(json.dumps(o))):
        most[found["kind"]] = found
    assert len(most) > 10
    for found in most.values():
        assert kubernetes_validate.validate(found, version, strict=True) == version, name_of(found)


def test_a_misspelt_field_is_refused() -> None:
    objects = overlay("laptop")
    edge = pod(objects, "edge").workload
    edge["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(edge, NEWEST, strict=True)


def test_a_field_of_another_type_is_refused() -> None:
    objects = overlay("laptop")
    service = named(objects, "Service", "edge")
    service["spec"]["ports"][0]["port"] = "7401"
    with pytest.raises(kubernetes_validate.ValidationError, match="7401"):
        kubernetes_validate.validate(service, OLDEST, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_custom_resources_have_documented_fields(name: str) -> None:
    for found in overlay(name):
        if found["kind"] in SCHEMAS:
            jsonschema.validate(found, SCHEMAS[found["kind"]])


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [
        ("ScaledObject", "worker", "minReplicas"),
        ("PodMonitor", "headwater", "endpoints"),
        ("ServiceMonitor", "origin", "podMetricsEndpoints"),
        ("PrometheusRule", "headwater", "rules"),
    ],
)
def test_an_undocumented_field_is_refused(kind: str, name: str, field: str) -> None:
    found = named(overlay("eu-west"), kind, name)
    found["spec"][field] = []
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.validate(found, SCHEMAS[kind])


def test_every_component_is_in_an_overlay() -> None:
    used: set[str] = set()
    for name in OVERLAYS:
        text = (ROOT / "overlays" / name / "kustomization.yaml").read_text()
        used |= {Path(path).name for path in yaml.safe_load(text).get("components", [])}
    assert used | EXAMPLES == {path.name for path in (ROOT / "components").iterdir()}


def test_an_overlay_of_one_s_own_may_take_an_example(tmp_path: Path) -> None:
    """As a reader of the how-to would write it: Kustomize takes relative paths only."""
    up = Path("/".join([".."] * (len(tmp_path.resolve().parts) - 1))) / ROOT.relative_to("/")
    given = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "headwater",
        "resources": [str(up / "base" / base) for base in ("common", "edge", "worker", "redis")],
        "components": [str(up / "components" / name) for name in sorted(EXAMPLES)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(given))
    objects = build(tmp_path)
    made = {o["spec"]["target"]["name"] for o in objects if o["kind"] == "ExternalSecret"}
    assert made == {"headwater-edge", "headwater-worker", "headwater-redis"}
    for found in objects:
        if found["kind"] in SCHEMAS:
            jsonschema.validate(found, SCHEMAS[found["kind"]])


def test_a_secret_s_mode_is_octal_where_it_arrives() -> None:
    """``0400`` is read as 256 by YAML 1.1 and as 400 by YAML 1.2; the API wants 256."""
    volume = pod(overlay("eu-west"), "edge").volume("secrets")
    assert volume is not None
    assert volume["secret"]["defaultMode"] == 256
