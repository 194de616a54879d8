"""Every overlay keeps every rule, and every rule can be broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes import kubernetes_checks as checks
from tests.fakes.kubernetes import (
    OVERLAYS,
    Check,
    Object,
    named,
    of_kind,
    overlay,
    pod,
)

Spoil = Callable[[list[Object]], object]


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_an_overlay_keeps_the_rule(name: str, check: Check) -> None:
    assert list(check(overlay(name))) == []


@pytest.mark.parametrize("name", ["eu-west", "us-east"])
def test_a_region_stays_where_it_is(name: str) -> None:
    assert list(checks.stays_on_one_region(overlay(name))) == []
    assert list(checks.stays_on_one_region(overlay("laptop")))


def edge(objects: list[Object]) -> Object:
    return pod(objects, "edge").spec


def container(objects: list[Object]) -> Object:
    return pod(objects, "edge").container


def policy(objects: list[Object], name: str = "edge") -> Object:
    spec: Object = named(objects, "NetworkPolicy", name)["spec"]
    return spec


def selector(objects: list[Object], kind: str, name: str) -> Object:
    spec: Object = named(objects, kind, name)["spec"]["selector"]
    return spec


def remove(objects: list[Object], kind: str, name: str) -> None:
    objects.remove(named(objects, kind, name))


def path_of(objects: list[Object]) -> Object:
    rule: Object = named(objects, "Ingress", "edge")["spec"]["rules"][0]
    return rule


def secret_volume(objects: list[Object]) -> Object:
    volume = pod(objects, "edge").volume("secrets")
    assert volume is not None
    secret: Object = volume["secret"]
    return secret


SPOILT: list[tuple[Check, Spoil, str]] = [
    (checks.restricted, lambda o: edge(o)["securityContext"].update(runAsUser=0), "as root"),
    (checks.restricted, lambda o: edge(o)["securityContext"].pop("runAsNonRoot"), "as root"),
    (checks.restricted, lambda o: edge(o)["securityContext"].pop("seccompProfile"), "seccomp"),
    (checks.restricted, lambda o: edge(o).update(hostNetwork=True), "hostNetwork"),
    (checks.restricted, lambda o: edge(o).pop("automountServiceAccountToken"), "cluster's API"),
    (
        checks.restricted,
        lambda o: edge(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "mounts {'hostPath'}",
    ),
    (
        checks.restricted,
        lambda o: container(o)["securityContext"].update(allowPrivilegeEscalation=True),
        "gain privileges",
    ),
    (
        checks.restricted,
        lambda o: container(o)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "keeps capabilities",
    ),
    (
        checks.restricted,
        lambda o: container(o)["securityContext"].pop("readOnlyRootFilesystem"),
        "write to its image",
    ),
    (
        checks.restricted,
        lambda o: container(o)["securityContext"].update(runAsUser=0),
        "overrides",
    ),
    (checks.restricted, lambda o: container(o)["ports"][0].update(hostPort=80), "of the host"),
    (checks.probed_and_sized, lambda o: container(o).pop("startupProbe"), "no startupProbe"),
    (
        checks.probed_and_sized,
        lambda o: container(o)["resources"]["limits"].pop("memory"),
        "no limits of ['memory']",
    ),
    (checks.probed_and_sized, lambda o: edge(o).pop("priorityClassName"), "no priority"),
    (
        checks.volumes_within_limits,
        lambda o: container(o)["resources"]["limits"].update({"ephemeral-storage": "1Gi"}),
        "in a limit of",
    ),
    (
        checks.volumes_within_limits,
        lambda o: edge(o)["volumes"].append({"name": "x", "emptyDir": {}}),
        "without a sizeLimit",
    ),
    (
        checks.images_pinned,
        lambda o: container(o).update(image="registry:5000/headwater/edge"),
        "no version",
    ),
    (
        checks.selectors_match,
        lambda o: selector(o, "Service", "edge").update(tier="edges"),
        "selects no pod",
    ),
    (
        checks.selectors_match,
        lambda o: named(o, "Service", "edge")["spec"]["ports"][0].update(targetPort=7400),
        "no port 7400",
    ),
    (
        checks.selectors_match,
        lambda o: selector(o, "PodDisruptionBudget", "edge")["matchLabels"].update(a="b"),
        "selects 0 workloads",
    ),
    (
        checks.selectors_match,
        lambda o: edge(o)["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"app": "other"}}
        ),
        "spreads other pods",
    ),
    (
        checks.disruption_leaves_one_and_lets_one_go,
        lambda o: named(o, "PodDisruptionBudget", "worker").update(
            spec={**named(o, "PodDisruptionBudget", "worker")["spec"], "maxUnavailable": 0}
        ),
        "lets none of those",
    ),
    (
        checks.scalers_have_targets,
        lambda o: named(o, "ScaledObject", "worker")["spec"]["scaleTargetRef"].update(
            kind="Deployment"
        ),
        "scales nothing",
    ),
    (
        checks.scalers_have_targets,
        lambda o: pod(o, "edge").workload["spec"].update(replicas=3),
        "undone by each apply",
    ),
    (
        checks.references_exist,
        lambda o: remove(o, "ConfigMap", "headwater-edge"),
        "no ConfigMap headwater-edge",
    ),
    (checks.references_exist, lambda o: remove(o, "ServiceAccount", "edge"), "no account"),
    (
        checks.references_exist,
        lambda o: container(o)["volumeMounts"].append({"name": "gone", "mountPath": "/x"}),
        "no volume gone",
    ),
    (checks.references_exist, lambda o: edge(o).update(priorityClassName="x"), "unknown priority"),
    (
        checks.secrets_closed,
        lambda o: secret_volume(o).update(defaultMode=0o444),
        "headwater-edge is not 0400",
    ),
    (
        checks.secrets_closed,
        lambda o: o.append({"kind": "Secret", "metadata": {"name": "token"}}),
        "Secret/token is shipped",
    ),
    (
        checks.secrets_closed,
        lambda o: container(o)["envFrom"].append({"secretRef": {"name": "headwater-edge"}}),
        "all of a Secret",
    ),
    (
        checks.network_closed,
        lambda o: remove(o, "NetworkPolicy", "default-deny"),
        "nothing is denied",
    ),
    (
        checks.network_closed,
        lambda o: policy(o)["ingress"][0]["ports"].append({"port": 9999}),
        "no port 9999",
    ),
    (checks.network_closed, lambda o: policy(o)["ingress"][0].pop("from"), "lets anybody in"),
    (checks.network_closed, lambda o: policy(o)["egress"][0].pop("ports"), "out to anywhere"),
    (
        checks.network_closed,
        lambda o: policy(o, "worker")["egress"][0].update(ports=[{"port": 7400}]),
        "listens on none",
    ),
    (
        checks.network_closed,
        lambda o: policy(o, "redis")["podSelector"].update(matchLabels={"a": "b"}),
        "about nobody",
    ),
    (
        checks.ingress_routes_little,
        lambda o: path_of(o)["http"]["paths"][0].update(path="/"),
        "routes / to edge",
    ),
    (
        checks.ingress_routes_little,
        lambda o: path_of(o)["http"]["paths"][0].update(path="/metrics"),
        "routes /metrics",
    ),
    (checks.ingress_routes_little, lambda o: path_of(o).update(host="x.example"), "without TLS"),
    (
        checks.ingress_routes_little,
        lambda o: named(o, "Ingress", "edge")["metadata"]["annotations"].clear(),
        "holds events back",
    ),
    (
        checks.monitors_find_pods,
        lambda o: named(o, "PodMonitor", "headwater")["spec"].update(
            selector={"matchLabels": {"a": "b"}}
        ),
        "finds nobody",
    ),
    (
        checks.monitors_find_pods,
        lambda o: named(o, "PodMonitor", "headwater")["spec"]["podMetricsEndpoints"][0].update(
            port="metrics"
        ),
        "no port metrics",
    ),
    (
        checks.in_one_namespace,
        lambda o: of_kind(o, "Service")[0]["metadata"].update(namespace="default"),
        "is in default",
    ),
]


@pytest.mark.parametrize(("check", "spoil", "told"), SPOILT, ids=[case[2] for case in SPOILT])
def test_a_rule_that_is_broken_is_seen(check: Check, spoil: Spoil, told: str) -> None:
    objects = overlay("eu-west")
    spoil(objects)
    assert [problem for problem in check(objects) if told in problem]


def test_a_budget_that_blocks_the_last_replica_is_seen() -> None:
    objects = overlay("origin")
    pod(objects, "origin").workload["spec"]["replicas"] = 1
    assert list(checks.disruption_leaves_one_and_lets_one_go(objects)) == [
        "PodDisruptionBudget/origin lets none of 1 go"
    ]


def test_a_service_of_one_pod_that_is_not_there_is_seen() -> None:
    objects = overlay("origin")
    pod(objects, "origin").workload["spec"]["replicas"] = 1
    assert "Service/origin-1 selects no pod" in list(checks.selectors_match(objects))


def test_every_rule_was_broken_once() -> None:
    assert {case[0] for case in SPOILT} == set(checks.CHECKS)
