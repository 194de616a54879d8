"""gpu_worker.openai_errors: our errors as stock clients read them."""

from __future__ import annotations

import json

import pytest

from gpu_worker.openai_errors import openai_error, openai_error_event
from wire.errors import HeadwaterError

BY_STATUS = [
    (400, "invalid_request_error"),
    (401, "authentication_error"),
    (403, "permission_error"),
    (404, "invalid_request_error"),
    (429, "rate_limit_error"),
    (499, "invalid_request_error"),
    (500, "server_error"),
    (503, "server_error"),
]


def failed(status: int) -> HeadwaterError:
    """An error of that status."""

    class FailedError(HeadwaterError):
        code = "failed"

    FailedError.status = status
    return FailedError('it said "no"\n')


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_a_status_has_its_type(status: int, kind: str) -> None:
    body, content_type = openai_error(failed(status))
    assert content_type == "application/json"
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["message"]) == (kind, "failed", 'it said "no"\n')


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_a_broken_stream_ends_with_the_same_in_one_event(status: int, kind: str) -> None:
    event = openai_error_event(failed(status))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2  # whatever the message holds, it is one event
    assert json.loads(event[6:])["error"]["type"] == kind
