from __future__ import annotations

import pytest

from edge_tier.gateway.errors import NoBackendError
from edge_tier.gateway.trace_attributes import of_refusal
from wire.errors import UnauthorizedError


@pytest.mark.parametrize(
    ("kind", "name", "method"),
    [
        ("chat", "chat", "POST"),
        ("completion", "text_completion", "POST"),
        ("embedding", "embeddings", "POST"),
        ("models", "models", "GET"),
        ("request", "request", "POST"),
    ],
)
def test_a_refusal_is_named_after_what_was_asked(kind: str, name: str, method: str) -> None:
    told, attributes, error = of_refusal(kind, UnauthorizedError("no"), "req-1")
    assert (told, error) == (name, "")
    assert attributes["http.request.method"] == method
    assert attributes["http.response.status_code"] == 401
    assert ("http.route" in attributes) == (kind in {"chat", "completion", "embedding"})


def test_a_fault_of_ours_is_an_error() -> None:
    _, attributes, error = of_refusal("chat", NoBackendError("none"), "req-1")
    assert error == attributes["error.type"] == NoBackendError.code
