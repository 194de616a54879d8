"""Schemas of the custom resources that the components use, as far as they use them.

``kubernetes-validate`` knows what Kubernetes itself has, no custom resources, so these are kept by
hand from the documentation: a field that is not listed here is refused, one that is required there
is required here. They say nothing about fields that we do not use. Sources: the CRDs
``keda.sh_scaledobjects.yaml`` (kedacore/keda), ``monitoring.coreos.com_podmonitors.yaml`` and
``_servicemonitors.yaml`` (prometheus-operator/prometheus-operator 0.91), the same one's
``_prometheusrules.yaml``, and KEDA's page of the Prometheus scaler; external-secrets.io/v1
ExternalSecret (external-secrets/external-secrets).

What we ship was compared with schemas that others generate from those files, too: npm's
@kubernetes-models/keda 0.4.2 and @kubernetes-models/prometheus-operator 6.0.0 take all of it, and
their types know every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def _map(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_DURATION: Schema = {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"}
_NUMBER_IN_TEXT: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {"type": "object", "required": ["name"]}
_SELECTOR = _map(
    (),
    matchLabels=_LABELS,
    matchExpressions=_list(
        _map(("key", "operator"), key=_TEXT, operator=_TEXT, values=_list(_TEXT))
    ),
)


def _object(group: str, kind: str, spec: Schema) -> Schema:
    return _map(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": group},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


_POLICIES = _list(
    _map(
        ("type", "value", "periodSeconds"),
        type={"enum": ["Pods", "Percent"]},
        value={"type": "integer", "minimum": 1},
        periodSeconds={"type": "integer", "minimum": 1, "maximum": 1_800},
    )
)
_RULES = _map(
    (),
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3_600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    policies=_POLICIES,
)
_PROMETHEUS = _map(
    ("serverAddress", "query", "threshold"),
    serverAddress={"type": "string", "pattern": "^https?://"},
    query=_TEXT,
    threshold=_NUMBER_IN_TEXT,
    activationThreshold=_NUMBER_IN_TEXT,
    namespace=_TEXT,
    ignoreNullValues={"enum": ["true", "false"]},
)
_SCALED_OBJECT = _map(
    ("scaleTargetRef", "triggers"),
    scaleTargetRef=_map(("name",), apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
    pollingInterval=_COUNT,
    cooldownPeriod=_COUNT,
    minReplicaCount=_COUNT,
    maxReplicaCount=_COUNT,
    fallback=_map(("failureThreshold", "replicas"), failureThreshold=_COUNT, replicas=_COUNT),
    advanced=_map(
        (),
        restoreToOriginalReplicaCount=_FLAG,
        horizontalPodAutoscalerConfig=_map(
            (), name=_TEXT, behavior=_map((), scaleUp=_RULES, scaleDown=_RULES)
        ),
    ),
    triggers=_list(
        _map(
            ("type", "metadata"),
            type={"const": "prometheus"},
            name=_TEXT,
            metricType={"enum": ["AverageValue", "Value"]},
            metadata=_PROMETHEUS,
        )
    ),
)
_RELABELINGS = _list(
    _map((), sourceLabels=_list(_TEXT), targetLabel=_TEXT, action={"enum": ["replace"]})
)
_ENDPOINTS = _list(
    _map(
        ("port",),
        port=_TEXT,
        path=_TEXT,
        interval=_DURATION,
        scrapeTimeout=_DURATION,
        relabelings=_RELABELINGS,
    )
)
_RECORDED_OR_ALERT = _map(
    ("expr",),
    record=_TEXT,
    alert=_TEXT,
    expr=_TEXT,
    labels=_LABELS,
    annotations=_LABELS,
    **{"for": _DURATION},
)
_EXTERNAL_SECRET = _map(
    ("secretStoreRef", "target"),
    refreshInterval=_DURATION,
    secretStoreRef=_map(
        ("name",), kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=_TEXT
    ),
    target=_map((), name=_TEXT),
    dataFrom=_list(_map((), extract=_map(("key",), key=_TEXT))),
)

SCHEMAS: Mapping[str, Schema] = {
    "ScaledObject": _object("keda.sh/v1alpha1", "ScaledObject", _SCALED_OBJECT),
    "PodMonitor": _object(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _map(
            ("selector", "podMetricsEndpoints"),
            jobLabel=_TEXT,
            selector=_SELECTOR,
            podMetricsEndpoints=_ENDPOINTS,
            sampleLimit=_COUNT,
        ),
    ),
    "ServiceMonitor": _object(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        _map(
            ("selector", "endpoints"),
            jobLabel=_TEXT,
            selector=_SELECTOR,
            endpoints=_ENDPOINTS,
            sampleLimit=_COUNT,
        ),
    ),
    "PrometheusRule": _object(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _map(
            (),
            groups=_list(
                _map(("name",), name=_TEXT, interval=_DURATION, rules=_list(_RECORDED_OR_ALERT))
            ),
        ),
    ),
    "ExternalSecret": _object("external-secrets.io/v1", "ExternalSecret", _EXTERNAL_SECRET),
}
