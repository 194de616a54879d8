"""The origin's own errors."""

from __future__ import annotations

from wire.errors import HeadwaterError


class StoreError(HeadwaterError):
    """The object store failed; the message says which object and why."""

    status = 503
    code = "store_failed"


class PublishError(HeadwaterError):
    """A publish was refused or could not be finished; the channel still points where it did."""

    status = 422
    code = "publish_refused"


class DigestMismatchError(PublishError):
    """A file is not the one that its source announced."""

    code = "digest_mismatch"


class ImportRefusedError(HeadwaterError):
    """A source, address, redirect or answer that an import must not follow."""

    status = 422
    code = "import_refused"
