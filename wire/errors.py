"""The error tree of the wire: what can be wrong with bytes, names, sources and trust.

Every error says who is at fault (a peer that sent something bad, or us), hints an HTTP status and
carries a stable code. One middleware (``wire.http_errors``) turns them into answers; nothing else
maps errors to HTTP. Messages name what was wrong and what to do; they carry plain ids and numbers,
never secrets.
"""

from __future__ import annotations

from typing import ClassVar


class HeadwaterError(Exception):
    """Base of every error this project raises on purpose.

    ``status`` is a hint for HTTP (RFC 9110 section 15); ``code`` is stable and machine-readable;
    ``headers`` are sent along with the answer (for example ``Retry-After``).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}


class NameInvalidError(HeadwaterError):
    """A model, channel, path, digest or key that cannot be one."""

    status = 400
    code = "name_invalid"


class RequestInvalidError(HeadwaterError):
    """A request whose body or parameters do not fit the interface."""

    status = 400
    code = "request_invalid"


class TooLargeError(HeadwaterError):
    """A body, file or field beyond a configured limit."""

    status = 413
    code = "too_large"


class UnauthorizedError(HeadwaterError):
    """No credential, or one that is not valid."""

    status = 401
    code = "unauthorized"


class ForbiddenError(HeadwaterError):
    """A valid credential without the scope that the action needs."""

    status = 403
    code = "forbidden"


class NotFoundError(HeadwaterError):
    """The model, channel, revision, file or chunk is not known here."""

    status = 404
    code = "not_found"


class GoneError(HeadwaterError):
    """The content was taken down (a hard purge) and must not be served again."""

    status = 410
    code = "gone"


class ConflictError(HeadwaterError):
    """Somebody else changed the thing first; read it again and repeat."""

    status = 409
    code = "conflict"


class ManifestInvalidError(HeadwaterError):
    """Manifest bytes that are not canonical, or out of bounds."""

    status = 422
    code = "manifest_invalid"


class GGUFInvalidError(HeadwaterError):
    """A GGUF file that must not be signed or loaded."""

    status = 422
    code = "gguf_invalid"


class GGUFTruncatedError(GGUFInvalidError):
    """The bytes at hand end inside the header, before the file does: more of them may help."""

    code = "gguf_truncated"


class SafetensorsInvalidError(HeadwaterError):
    """A safetensors file that must not be signed."""

    status = 422
    code = "safetensors_invalid"


class ChunkMismatchError(HeadwaterError):
    """Bytes that are not the chunk they claim to be: rotten on disk, or changed on the way."""

    status = 502
    code = "chunk_mismatch"


class SourceUnavailableError(HeadwaterError):
    """A source could not be reached, broke off, or answered against the protocol."""

    status = 502
    code = "source_unavailable"


class TrustError(HeadwaterError):
    """Signed metadata that does not verify: bad signature, rollback, freeze or mix-and-match."""

    status = 502
    code = "trust_failed"


class TrustExpiredError(TrustError):
    """Signed metadata past its expiry: what was verified keeps serving, nothing new is accepted."""

    code = "trust_expired"


class TrustStateError(TrustError):
    """The trusted state cannot be read from disk or kept there; nothing was accepted."""

    status = 500
    code = "trust_state"


class ConfigError(HeadwaterError):
    """A configuration value that is missing, unknown or out of range."""

    code = "config_invalid"
