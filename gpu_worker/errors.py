"""The worker's own errors."""

from __future__ import annotations

from wire.errors import HeadwaterError, NotFoundError
from wire.workers import Fault


class DiskError(HeadwaterError):
    """The disk that holds the models failed; says which path and why."""

    code = "disk_failed"


class DiskFullError(DiskError):
    """The model does not fit on the disk; says how much is needed and where."""

    status = 507
    code = "disk_full"


class BusyError(DiskError):
    """Somebody else is pulling the same revision into the same folder."""

    status = 409
    code = "busy"


class LoadFailedError(HeadwaterError):
    """An engine could not load or probe a model; what served before goes on serving."""

    status = 503
    code = "load_failed"

    def __init__(self, message: str, *, fault: Fault = "") -> None:
        super().__init__(message)
        self.fault = fault
        """What ended the engine that tried."""


class NoRoomError(HeadwaterError):
    """The budget of memory has no room for one more model now; says what stands in the way."""

    status = 503
    code = "no_room"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})
        self.retry_after_s = retry_after_s


class NotAModelError(HeadwaterError):
    """The revision is a static site: edges serve it to browsers, and no engine can load it."""

    status = 422
    code = "not_a_model"


class VariantUnknownError(NotFoundError):
    """The revision has variants, but not the one that was asked for; names those it has."""

    code = "variant_unknown"
