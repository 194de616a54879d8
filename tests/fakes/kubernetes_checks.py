"""What must hold for the objects of every overlay, beside that they are valid.

One function for each rule, which says what breaks it. The first is the restricted profile of
https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.kubernetes import secrets
from tests.fakes.kubernetes import (
    SECTIONS,
    Check,
    Object,
    Pod,
    bytes_of,
    matches,
    name_of,
    named,
    of_kind,
    pods,
)
from wire.paths import EDGE_REPORT

_VOLUMES = frozenset({"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"})
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_PUBLIC = {
    ("edge", "/v1", "Prefix"),
    ("edge-artifacts", "/assets", "Prefix"),
    ("origin", "/artifacts", "Prefix"),
    ("origin-0", EDGE_REPORT, "Exact"),
    ("origin-1", EDGE_REPORT, "Exact"),
}
"""What clients and other clusters may reach: never /admin, /console, /metrics."""
_GIVEN = frozenset({"headwater-trust"})
"""ConfigMaps that ``infra.kubernetes.secrets`` makes."""
_COMPONENT = "app.kubernetes.io/component"
_INDEX = "apps.kubernetes.io/pod-index"
"""The label of a StatefulSet's pods that tells them apart."""
_GOES_ON_S = 5
"""After its drain a tier still has to close connections and write what it knows."""


def restricted(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        security = pod.spec.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
            yield f"{pod.name} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.name} has no seccomp profile"
        for flag in _HOST:
            if pod.spec.get(flag):
                yield f"{pod.name} has {flag}"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name} gets a token of the cluster's API"
        for volume in pod.spec.get("volumes", []):
            if kinds := set(volume) - {"name"} - _VOLUMES:
                yield f"{pod.name} mounts {kinds}"
        for container in pod.containers:
            yield from _restricted_container(pod, container)


def _restricted_container(pod: Pod, container: Object) -> Iterator[str]:
    name = f"{pod.name} {container['name']}"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield f"{name} may gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write to its image"
    if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(security):
        yield f"{name} overrides what the pod says"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name} has a port of the host"


def probed_and_sized(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in pod.container:
                yield f"{pod.name} has no {probe}"
        for container in pod.containers:
            resources = container.get("resources", {})
            for kind, names in (
                ("requests", ("cpu", "memory", "ephemeral-storage")),
                ("limits", ("memory", "ephemeral-storage")),
            ):
                if missing := set(names) - set(resources.get(kind, {})):
                    yield f"{pod.name} {container['name']} has no {kind} of {sorted(missing)}"
        if "priorityClassName" not in pod.spec:
            yield f"{pod.name} has no priority"


def volumes_within_limits(objects: list[Object]) -> Iterator[str]:
    """A pod whose emptyDirs together outgrow its ephemeral-storage limit is evicted."""
    for pod in pods(objects):
        dirs = [v["emptyDir"] for v in pod.spec.get("volumes", []) if "emptyDir" in v]
        if any("sizeLimit" not in one for one in dirs):
            yield f"{pod.name} has an emptyDir without a sizeLimit"
            continue
        disk = sum(bytes_of(one["sizeLimit"]) for one in dirs if one.get("medium") != "Memory")
        limit = bytes_of(pod.container["resources"]["limits"]["ephemeral-storage"])
        if disk > limit:
            yield f"{pod.name}: volumes of {disk} B in a limit of {limit} B"


def images_pinned(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for container in pod.containers:
            _, _, tag = container["image"].rpartition("/")[2].partition(":")
            if not tag or tag == "latest":
                yield f"{pod.name}: image {container['image']} has no version"


def selectors_match(objects: list[Object]) -> Iterator[str]:
    everyone = pods(objects)
    for service in of_kind(objects, "Service"):
        wanted = dict(service["spec"]["selector"])
        index = int(wanted.pop(_INDEX, 0))
        selected = [p for p in everyone if matches({"matchLabels": wanted}, p.labels)]
        if not any(index < p.workload["spec"].get("replicas", index + 1) for p in selected):
            yield f"{name_of(service)} selects no pod"
        for port in service["spec"]["ports"]:
            for pod in selected:
                if port["targetPort"] not in {*pod.ports, *pod.ports.values()}:
                    yield f"{name_of(service)}: {pod.name} has no port {port['targetPort']}"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        found = [p for p in everyone if matches(budget["spec"]["selector"], p.labels)]
        if len(found) != 1:
            yield f"{name_of(budget)} selects {len(found)} workloads"
    for pod in everyone:
        if not matches(pod.workload["spec"]["selector"], pod.labels):
            yield f"{pod.name} does not select its own pods"
        for spread in pod.spec.get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], pod.labels):
                yield f"{pod.name} spreads other pods"


def disruption_leaves_one_and_lets_one_go(objects: list[Object]) -> Iterator[str]:
    """A budget that lets nobody go blocks the drain of a node for ever."""
    for budget in of_kind(objects, "PodDisruptionBudget"):
        spec = budget["spec"]
        for pod in pods(objects):
            if not matches(spec["selector"], pod.labels):
                continue
            replicas = pod.workload["spec"].get("replicas", "those that are scaled")
            if replicas == "those that are scaled":
                if not spec.get("maxUnavailable"):
                    yield f"{name_of(budget)} lets none of {replicas} go"
                continue
            goes = spec.get("maxUnavailable", replicas - spec.get("minAvailable", 0))
            if goes < 1:
                yield f"{name_of(budget)} lets none of {replicas} go"


def scalers_have_targets(objects: list[Object]) -> Iterator[str]:
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        found = [
            o for o in of_kind(objects, target["kind"]) if o["metadata"]["name"] == target["name"]
        ]
        if not found:
            yield f"{name_of(scaler)} scales nothing"
        if any("replicas" in workload["spec"] for workload in found):
            yield f"{name_of(scaler)} is undone by each apply: its target has replicas"


def references_exist(objects: list[Object]) -> Iterator[str]:
    maps = {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")} | _GIVEN
    accounts = {o["metadata"]["name"] for o in of_kind(objects, "ServiceAccount")}
    classes = {o["metadata"]["name"] for o in of_kind(objects, "PriorityClass")}
    for pod in pods(objects):
        if pod.spec["serviceAccountName"] not in accounts:
            yield f"{pod.name} has no account of its own"
        if pod.spec.get("priorityClassName") not in classes:
            yield f"{pod.name} has an unknown priority"
        for volume in pod.spec.get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{pod.name}: no ConfigMap {volume['configMap']['name']}"
        for container in pod.containers:
            volumes = {v["name"] for v in pod.spec.get("volumes", [])}
            claims = pod.workload["spec"].get("volumeClaimTemplates", [])
            volumes |= {claim["metadata"]["name"] for claim in claims}
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    yield f"{pod.name}: no volume {mount['name']}"


def secrets_closed(objects: list[Object]) -> Iterator[str]:
    """No Secret is shipped, and those that are mounted are for their pod alone."""
    for found in of_kind(objects, "Secret"):
        yield f"{name_of(found)} is shipped"
    for pod in pods(objects):
        for volume in pod.spec.get("volumes", []):
            if "secret" in volume and volume["secret"].get("defaultMode") != 0o400:
                yield f"{pod.name}: Secret {volume['secret']['secretName']} is not 0400"
        if any("secretRef" in source for source in pod.container.get("envFrom", [])):
            yield f"{pod.name} has all of a Secret in its environment"


def network_closed(objects: list[Object]) -> Iterator[str]:
    policies = of_kind(objects, "NetworkPolicy")
    denying = [
        p["spec"]
        for p in policies
        if p["spec"]["podSelector"] == {} and not {"ingress", "egress"} & set(p["spec"])
    ]
    if [set(p["policyTypes"]) for p in denying] != [{"Ingress", "Egress"}]:
        yield "nothing is denied by default"
    for policy in policies:
        yield from _policy_ports(policy, pods(objects))


def _policy_ports(policy: Object, everyone: list[Pod]) -> Iterator[str]:
    """A policy's ports are those of the pods that it is about."""
    spec = policy["spec"]
    own = [p for p in everyone if matches(spec["podSelector"], p.labels)]
    if not own:
        yield f"{name_of(policy)} is about nobody"
    yield from _ingress_ports(policy, own)
    yield from _egress_ports(policy, everyone)


def _ingress_ports(policy: Object, own: list[Pod]) -> Iterator[str]:
    for rule in policy["spec"].get("ingress", []):
        if not rule.get("from") or not rule.get("ports"):
            yield f"{name_of(policy)} lets anybody in"
        for port in rule.get("ports", []):
            for pod in own:
                if port["port"] not in {*pod.ports, *pod.ports.values()}:
                    yield f"{name_of(policy)}: {pod.name} has no port {port['port']}"


def _egress_ports(policy: Object, everyone: list[Pod]) -> Iterator[str]:
    for rule in policy["spec"].get("egress", []):
        if not rule.get("to") or not rule.get("ports"):
            yield f"{name_of(policy)} lets out to anywhere"
            continue
        ports = {port["port"] for port in rule["ports"]}
        peers = [peer for peer in rule["to"] if set(peer) == {"podSelector"}]
        for pod in everyone:
            asked = any(matches(peer["podSelector"], pod.labels) for peer in peers)
            if asked and not ports & set(pod.ports.values()):
                yield f"{name_of(policy)}: {pod.name} listens on none of its ports"


def ingress_routes_little(objects: list[Object]) -> Iterator[str]:
    services = {s["metadata"]["name"]: s for s in of_kind(objects, "Service")}
    for ingress in of_kind(objects, "Ingress"):
        hosts = {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule["host"] not in hosts:
                yield f"{name_of(ingress)}: {rule['host']} is without TLS"
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if (backend["name"], path["path"], path["pathType"]) not in _PUBLIC:
                    yield f"{name_of(ingress)} routes {path['path']} to {backend['name']}"
                ports = services.get(backend["name"], {"spec": {"ports": []}})["spec"]["ports"]
                if backend["port"]["name"] not in {port["name"] for port in ports}:
                    yield f"{name_of(ingress)}: no Service {backend['name']} with such a port"
        if ingress["metadata"]["annotations"].get(_BUFFERING) != "off":
            yield f"{name_of(ingress)} holds events back"


_BUFFERING = "nginx.ingress.kubernetes.io/proxy-buffering"


def monitors_find_pods(objects: list[Object]) -> Iterator[str]:
    """Each finds somebody, unless what it is about runs in another cluster."""
    here = {p.component for p in pods(objects)}
    targets = {
        "PodMonitor": [(p.labels, set(p.ports)) for p in pods(objects)],
        "ServiceMonitor": [
            (s["metadata"].get("labels", {}), {port["name"] for port in s["spec"]["ports"]})
            for s in of_kind(objects, "Service")
        ],
    }
    for monitor in of_kind(objects, *targets):
        spec = monitor["spec"]
        found = [p for labels, p in targets[monitor["kind"]] if matches(spec["selector"], labels)]
        about = [name for name in SECTIONS if matches(spec["selector"], {_COMPONENT: name})]
        if not found and (here & set(about) or not about):
            yield f"{name_of(monitor)} finds nobody"
        for endpoint in spec.get("podMetricsEndpoints", spec.get("endpoints", [])):
            if any(endpoint["port"] not in ports for ports in found):
                yield f"{name_of(monitor)}: no port {endpoint['port']}"


def stays_on_one_region(objects: list[Object]) -> Iterator[str]:
    """Everything of a region runs there and says so."""
    region = named(objects, "ConfigMap", "headwater-region")["data"][
        "HEADWATER_EDGE__FLEET__REGION"
    ]
    for pod in pods(objects):
        selector = pod.spec.get("nodeSelector", {})
        if selector.get("topology.kubernetes.io/region") != region:
            yield f"{pod.name} may run outside {region}"
        if pod.labels.get("headwater.dev/region") != region:
            yield f"{pod.name} does not say that it is of {region}"


def secret_keys(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """Secret and key of every value that is asked for by key."""
    for pod in pods(objects):
        for entry in pod.container.get("env", []):
            found = entry.get("valueFrom", {}).get("secretKeyRef")
            if found is not None:
                yield found["name"], found["key"]
        for volume in pod.spec.get("volumes", []):
            for item in volume.get("secret", {}).get("items", []):
                yield volume["secret"]["secretName"], item["key"]


def in_one_namespace(objects: list[Object]) -> Iterator[str]:
    for found in objects:
        if found["kind"] in {"Namespace", "PriorityClass"}:
            continue
        if found["metadata"].get("namespace") != secrets.NAMESPACE:
            yield f"{name_of(found)} is in {found['metadata'].get('namespace')}"


CHECKS: tuple[Check, ...] = (
    restricted,
    probed_and_sized,
    volumes_within_limits,
    images_pinned,
    selectors_match,
    disruption_leaves_one_and_lets_one_go,
    scalers_have_targets,
    references_exist,
    secrets_closed,
    network_closed,
    ingress_routes_little,
    monitors_find_pods,
    in_one_namespace,
)


def grace_problem(pod: Pod, drain_s: float) -> str:
    """Whether a pod would be killed while it drains; empty where not."""
    stop = pod.container.get("lifecycle", {}).get("preStop", {})
    before = stop.get("sleep", {}).get("seconds", 0)
    grace = pod.spec["terminationGracePeriodSeconds"]
    if grace < before + drain_s + _GOES_ON_S:
        needs = f"preStop {before} + drain {drain_s:g} + {_GOES_ON_S}"
        return f"{pod.name}: {grace} s are less than {needs}"
    return ""


def startup_budget_s(pod: Pod) -> int:
    """How long a container may take to become ready for the first time."""
    probe = pod.container["startupProbe"]
    return int(probe["failureThreshold"]) * int(probe["periodSeconds"])
