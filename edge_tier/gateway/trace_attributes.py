"""What a trace says of a request, beside its times. Pure; see ``tracing``."""

from __future__ import annotations

from edge_tier.gateway.pipeline import Admitted
from edge_tier.gateway.tracing import OPERATIONS
from wire.errors import HeadwaterError
from wire.telemetry.spans import Value

_ROUTES = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
}
_FINE = frozenset({"whole", "gone"})
"""Outcomes that are nobody's fault here: a client may leave."""
_MAX_NAME_CHARS = 128


def of_answer(
    admitted: Admitted,
    request_id: str,
    *,
    target: str,
    model: str,
    outcome: str,
    used: tuple[int, int],
    first_token_s: float,
) -> tuple[str, dict[str, Value], str]:
    """The span's name, its attributes, and what went wrong.

    Args:
        model: that answered; empty: none did.
        used: tokens of the prompt and of the answer.
        first_token_s: from the request to it; 0: there was none.
    """
    prompt = admitted.prompt
    operation, asked = OPERATIONS[prompt.kind], prompt.model[:_MAX_NAME_CHARS]
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "headwater",
        "gen_ai.request.model": asked,
        "gen_ai.request.max_tokens": admitted.max_tokens,
        "gen_ai.usage.input_tokens": used[0],
        "gen_ai.usage.output_tokens": used[1],
        "http.request.method": "POST",
        "http.route": _ROUTES[prompt.kind],
        "headwater.request": request_id,
        "headwater.tenant": admitted.caller.tenant,
        "headwater.target": target,
        "headwater.outcome": outcome,
        "headwater.reasons": list(admitted.plan.reasons),
    }
    if model:
        attributes["gen_ai.response.model"] = model
    if first_token_s:
        attributes["headwater.first_token_ms"] = round(first_token_s * 1e3, 3)
    if prompt.sampling.temperature is not None:
        attributes["gen_ai.request.temperature"] = prompt.sampling.temperature
    error = "" if outcome in _FINE else outcome
    if error:
        attributes["error.type"] = error
    return f"{operation} {asked}", attributes, error


def of_refusal(
    kind: str, error: HeadwaterError, request_id: str
) -> tuple[str, dict[str, Value], str]:
    """The same of a request that was not answered. That a client is at fault is no error of this
    tier's (OpenTelemetry's conventions for HTTP servers)."""
    attributes: dict[str, Value] = {
        "http.request.method": "GET" if kind == "models" else "POST",
        "http.response.status_code": error.status,
        "headwater.request": request_id,
        "headwater.outcome": "refused",
        "error.type": error.code,
    }
    if kind in _ROUTES:
        attributes |= {
            "gen_ai.operation.name": OPERATIONS[kind],
            "gen_ai.provider.name": "headwater",
            "http.route": _ROUTES[kind],
        }
    return OPERATIONS.get(kind, kind), attributes, error.code if error.status >= 500 else ""
