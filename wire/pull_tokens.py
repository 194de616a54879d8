"""Pull tokens: what opens private models to whoever pulls them.

A token is ``hf_`` and 40 letters and digits (238 random bits), the form that the clients of the
Hugging Face Hub insist on. Only its SHA-256 is kept, in a file of mode 600 that several processes
may read and change: a secret of that many bits needs neither salt nor a slow hash. Changes to the
file take effect without a restart.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import string
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from wire.errors import ConfigError, NameInvalidError, NotFoundError, TooLargeError
from wire.files import open_to_others, write_atomically

FORMAT = "headwater.pull-tokens/1"
PREFIX = "hf_"
SECRET_CHARS = 40
MAX_TOKEN_CHARS = 256
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_PATTERNS = 64
MAX_NOTE_CHARS = 256

_ALPHABET = string.ascii_letters + string.digits
_ID_ALPHABET = string.ascii_lowercase + string.digits
_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,96}")
_ID = re.compile(r"[a-z0-9]{10}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks for a model, as far as it matters."""

    name: str = ""
    """The id of the token, or what else is known; empty: nobody in particular."""
    patterns: tuple[str, ...] = ()
    """The models that are open to this reader; ``*`` stands for any characters."""
    refused: bool = False
    """A credential was shown, and opens nothing."""

    @property
    def known(self) -> bool:
        """Whether a valid credential was shown."""
        return bool(self.name)

    def opens(self, model: str) -> bool:
        """Whether private revisions of this model may be read."""
        return any(fnmatchcase(model, pattern) for pattern in self.patterns)


ANYBODY = Reader()
REFUSED = Reader(refused=True)


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a token: everything but the token."""

    token_id: str
    digest: str
    """SHA-256 of the token, 64 hexadecimal digits."""
    models: tuple[str, ...]
    """Patterns of the models that it opens."""
    created: float
    """Seconds since 1970."""
    expires: float | None = None
    """Seconds since 1970; None: never."""
    note: str = ""

    def __repr__(self) -> str:
        return f"TokenRecord(token_id={self.token_id!r}, models={self.models!r})"

    def reader(self) -> Reader:
        """Who asks with this token."""
        return Reader(self.token_id, self.models)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    tokens: tuple[TokenRecord, ...]


_decoder = msgspec.json.Decoder(_File)


def new_token() -> str:
    """A token that nobody has seen."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARS))


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def model_pattern(text: str) -> str:
    """Check a pattern of models: letters, digits, dot, dash, underscore, and ``*`` for any."""
    if not _PATTERN.fullmatch(text):
        raise NameInvalidError(
            "a pattern of models holds letters, digits, dot, dash, underscore and * (at most 96)"
        )
    return text


def encode_tokens(records: Iterable[TokenRecord]) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(_File(FORMAT, tuple(records))), indent=1) + b"\n"


def decode_tokens(data: bytes) -> tuple[TokenRecord, ...]:
    """Read the file's content.

    Raises:
        ConfigError: malformed, of another format, or a record that cannot be one.
    """
    try:
        file = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"pull tokens are malformed: {error}") from error
    if file.format != FORMAT:
        raise ConfigError(f"pull tokens have the format {file.format[:40]!r}, not {FORMAT!r}")
    for record in file.tokens:
        if (
            not _ID.fullmatch(record.token_id)
            or not _DIGEST.fullmatch(record.digest)
            or not all(_PATTERN.fullmatch(pattern) for pattern in record.models)
        ):
            raise ConfigError(f"pull token {record.token_id[:16]!r} cannot be one")
    return file.tokens


class PullTokens:
    """The tokens in one file. A file that is not there holds none.

    Asking reads memory only; :meth:`refresh` looks at the file, in a thread, now and then.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._by_digest: dict[str, TokenRecord] = {}
        self._by_id: dict[str, TokenRecord] = {}

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> PullTokens:
        """The file as it is now. Raises ``ConfigError`` where it cannot be used."""
        tokens = cls(path, clock=clock)
        tokens.refresh()
        return tokens

    def refresh(self) -> None:
        """Take in what changed. Blocks.

        Raises:
            ConfigError: it cannot be used; what was read last stays in force.
        """
        stamp = _stamp(self.path)
        if stamp != self._seen:
            records = _read(self.path)
            self._by_digest = {record.digest: record for record in records}
            self._by_id = {record.token_id: record for record in records}
            self._seen = stamp

    def reader(self, token: str) -> Reader | None:
        """Who asks with this token; None where it is unknown or has expired.

        The token's hash is looked up, and then compared in constant time: what timing could tell of
        a hash leads nobody to a token.
        """
        digest = digest_of(token)
        record = self._by_digest.get(digest)
        if record is None or not hmac.compare_digest(record.digest, digest):
            return None
        return self._valid(record)

    def holder(self, token_id: str) -> Reader | None:
        """The holder of the token with this id, while it is valid."""
        record = self._by_id.get(token_id)
        return self._valid(record) if record is not None else None

    def records(self) -> tuple[TokenRecord, ...]:
        """All tokens, oldest first."""
        return tuple(sorted(self._by_id.values(), key=lambda record: record.created))

    def mint(
        self, models: Iterable[str], *, expires: float | None = None, note: str = ""
    ) -> tuple[TokenRecord, str]:
        """Make a token and keep its hash. Blocks. The token itself is given here and never again.

        Args:
            models: patterns of the models that it opens.
            expires: seconds since 1970; None: never.

        Raises:
            NameInvalidError: a pattern that cannot be one, none, or too many.
            ConfigError: the file cannot be written.
        """
        patterns = tuple(dict.fromkeys(model_pattern(text) for text in models))
        if not 0 < len(patterns) <= MAX_PATTERNS:
            raise NameInvalidError(f"a pull token opens 1 to {MAX_PATTERNS} patterns of models")
        token = new_token()
        record = TokenRecord(
            token_id="".join(secrets.choice(_ID_ALPHABET) for _ in range(10)),
            digest=digest_of(token),
            models=patterns,
            created=self._clock(),
            expires=expires,
            note=note[:MAX_NOTE_CHARS],
        )
        with self._changing() as records:
            records[record.token_id] = record
        return record, token

    def revoke(self, token_id: str) -> TokenRecord:
        """Forget a token. Blocks.

        Raises:
            NotFoundError: there is none with this id.
            ConfigError: the file cannot be written.
        """
        with self._changing() as records:
            record = records.pop(token_id, None)
            if record is None:
                raise NotFoundError(f"no pull token {token_id[:32]!r}; see `headwater tokens list`")
        return record

    def _valid(self, record: TokenRecord) -> Reader | None:
        if record.expires is not None and self._clock() >= record.expires:
            return None
        return record.reader()

    @contextmanager
    def _changing(self) -> Iterator[dict[str, TokenRecord]]:
        """The records by id, to be changed; written when the block ends well. One at a time."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open {lock}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            records = {record.token_id: record for record in _read(self.path)}
            yield records
            _write(self.path, encode_tokens(records.values()))
        finally:
            os.close(descriptor)
        self.refresh()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> tuple[TokenRecord, ...]:
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if open_to_others(path, found):
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(f"{path} is open to others (mode {mode:o}); run: chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} B")
    return decode_tokens(data)


def _write(path: Path, data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise TooLargeError(f"{path} would be larger than {MAX_FILE_BYTES} B; revoke some tokens")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
