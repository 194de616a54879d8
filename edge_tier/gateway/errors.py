"""The gateway's own errors: what a client of ``/v1`` can be told about backends."""

from __future__ import annotations

from wire.errors import HeadwaterError


class UpstreamError(HeadwaterError):
    """A backend could not be reached, broke off, or answered against HTTP."""

    status = 502
    code = "upstream_failed"


class UpstreamBusyError(UpstreamError):
    """A worker is well and cannot take one more request now."""


class UpstreamRefusedError(HeadwaterError):
    """A backend says that the request itself is at fault; another one would say the same.

    Args:
        why: the backend's own code.
    """

    status = 400
    code = "request_refused"

    def __init__(self, message: str, *, why: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.worker = ""
        """Which worker says so; empty: the cloud."""


class NoBackendError(HeadwaterError):
    """Nothing that may serve this request is ready now."""

    status = 503
    code = "no_backend"


class ModelsNotReadyError(HeadwaterError):
    """The edge has no verified model yet: it has just started, or nothing is published."""

    status = 503
    code = "models_not_ready"


class BodyTimeoutError(HeadwaterError):
    """A client that sends its body too slowly (RFC 9110 section 15.5.9)."""

    status = 408
    code = "body_timeout"
