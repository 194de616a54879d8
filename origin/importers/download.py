"""Brings a URL to this disk, through :class:`origin.importers.transfer.Transfer`. Blocking.

Every hop is resolved once, all its addresses are checked, and the connection goes to one of those
very addresses: the name is only used for TLS and for the Host header. So no second answer of a name
server can lead elsewhere (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from origin.errors import ImportRefusedError, PublishError
from origin.importers.addresses import Target, check_addresses, is_public
from origin.importers.transfer import FetchLimits, Partial, Transfer
from wire.errors import SourceUnavailableError

Progress = Callable[[str, int, int], None]
Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as text."""

_BLOCK_BYTES = 1024 * 1024
_MAX_STATE_BYTES = 4_096
_SINGLE = frozenset(("content-encoding", "content-length", "content-range", "etag", "location"))


class _State(msgspec.Struct, frozen=True):
    """Beside a partial file: what it is part of."""

    url_sha256: str
    etag: str


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver.

    Raises:
        SourceUnavailableError: the name is not known.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceUnavailableError(f"cannot resolve {host}: {error.strerror}") from error
    return [str(address[4][0]) for address in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    """Downloads by URL.

    Args:
        public: which addresses count as the public Internet's.
        tls: the certificates to believe; the system's by default.
    """

    limits: FetchLimits = field(default_factory=FetchLimits)
    resolve: Resolve = resolve
    public: Callable[[str], bool] = is_public
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def fetch(self, url: str, file: Path, progress: Progress = lambda *_: None) -> None:
        """Bring ``url`` to ``file``; what an earlier run left beside it is gone on with.

        Args:
            progress: told of the step ``fetch``; a total of 0 is not known.

        Raises:
            ImportRefusedError, TooLargeError: the URL, an address, a redirect or an answer is not
                to be followed.
            NotFoundError, UnauthorizedError: the server will not give it.
            SourceUnavailableError: it broke off again and again, or took too long.
            PublishError: it cannot be written.
        """
        part, note = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.state")
        transfer = Transfer(url, self.limits, _left(part, note, url))
        deadline = self.clock() + self.limits.total_s
        try:
            with part.open("r+b" if part.exists() else "w+b") as stream:
                writer = _Writer(stream, note, transfer, progress)
                while not transfer.done:
                    try:
                        self._attempt(transfer, writer, deadline)
                    except SourceUnavailableError as error:
                        if self.clock() >= deadline:
                            raise
                        self.pause(transfer.failed(error))
                stream.truncate(transfer.received)
                os.fsync(stream.fileno())
            part.replace(file)
            note.unlink(missing_ok=True)
        except OSError as error:
            raise PublishError(f"cannot write {part}: {error.strerror}") from error

    def _attempt(self, transfer: Transfer, writer: _Writer, deadline: float) -> None:
        """One request and its answer."""
        asked = transfer.ask()
        self._in_time(asked.target, deadline)
        addresses = self._addresses(asked.target)
        left = deadline - self.clock()
        connection = _Pinned(asked.target, addresses, self.tls, self.limits.idle_s, left)
        with closing(connection), _as_unavailable(asked.target):
            connection.request("GET", asked.target.path, headers=dict(asked.headers))
            with closing(connection.getresponse()) as answer:
                self._in_time(asked.target, deadline)  # a head that was cut off looks whole
                body = transfer.answered(answer.status, _headers(answer))
                if body is None:
                    return
                writer.begin(body.offset)
                while data := answer.read1(_BLOCK_BYTES):
                    writer.write(data)
                    self._in_time(asked.target, deadline)
            transfer.ended()

    def _in_time(self, target: Target, deadline: float) -> None:
        if self.clock() >= deadline:
            raise SourceUnavailableError(f"{target.shown} took longer than it may")

    def _addresses(self, target: Target) -> tuple[str, ...]:
        found = [target.address] if target.address else self.resolve(target.host, target.port)
        if self.limits.allow_private_network:
            return check_addresses(found, target.host, lambda _address: True)
        return check_addresses(found, target.host, self.public)


class _Writer:
    """A partial file, with the note of what it is part of."""

    def __init__(
        self, stream: BinaryIO, note: Path, transfer: Transfer, progress: Progress
    ) -> None:
        self._stream = stream
        self._note = note
        self._transfer = transfer
        self._progress = progress

    def begin(self, offset: int) -> None:
        """The next bytes stand at ``offset``. The note comes before the bytes: a crash between may
        cost them, but never joins two files."""
        state = _State(_digest(self._transfer.url), self._transfer.partial.etag)
        with self._as_unwritten():
            self._stream.seek(offset)
            self._stream.truncate()
            self._stream.flush()
            self._note.write_bytes(msgspec.json.encode(state))

    def write(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._transfer.got(len(data))
        with self._as_unwritten():
            self._stream.write(data)
            self._stream.flush()
        self._progress("fetch", self._transfer.received, self._transfer.total or 0)

    @contextmanager
    def _as_unwritten(self) -> Iterator[None]:
        """A full disk is no fault of the source."""
        try:
            yield
        except OSError as error:
            raise PublishError(f"cannot write {self._note.parent}: {error.strerror}") from error


class _Pinned(http.client.HTTPSConnection):
    """A connection to one of these addresses, whatever the name means by then.

    Args:
        idle_s: silence, in seconds, after which it fails.
        left_s: after so many seconds it is cut, however busy it is.
    """

    def __init__(
        self,
        target: Target,
        addresses: Sequence[str],
        tls: ssl.SSLContext,
        idle_s: float,
        left_s: float,
    ) -> None:
        super().__init__(target.host.strip("[]"), target.port, timeout=idle_s, context=tls)
        self._addresses = addresses
        self._tls = tls
        self._idle_s = idle_s
        self._watch = threading.Timer(left_s, self._cut)
        self._watch.daemon = True
        self._cutable: socket.socket | None = None

    def connect(self) -> None:
        """To the first address that answers, and TLS for the name."""
        raw = self._cutable = self._reach()
        self._watch.start()
        try:
            self.sock = self._cutable = self._tls.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        self._watch.cancel()
        super().close()

    def _reach(self) -> socket.socket:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                return socket.create_connection((address, self.port), self._idle_s)
            except OSError as error:
                failure = error
        raise failure

    def _cut(self) -> None:
        """End what is being read, from another thread; TLS itself must not be touched from here."""
        if self._cutable is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._cutable, socket.SHUT_RDWR)


@contextmanager
def _as_unavailable(target: Target) -> Iterator[None]:
    """What a connection raises, in our own terms.

    A certificate that does not verify is refused for good: asking again would not mend it.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ImportRefusedError(
            f"{target.shown} has no valid certificate: {error.verify_message}"
        ) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise SourceUnavailableError(f"{target.shown}: {type(error).__name__}") from error


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    """Names in lower case; one that counts and stands twice is none of ours to choose from."""
    found: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        if key in found and found[key] != value and key in _SINGLE:
            raise ImportRefusedError(f"an answer has two different {name} headers")
        found[key] = value
    return found


def _left(part: Path, note: Path, url: str) -> Partial:
    """What an earlier run left of the same URL."""
    try:
        if note.stat().st_size > _MAX_STATE_BYTES:
            return Partial()
        state = msgspec.json.decode(note.read_bytes(), type=_State)
        size = part.stat().st_size
    except (OSError, msgspec.DecodeError):
        return Partial()
    return Partial(size, state.etag) if state.url_sha256 == _digest(url) else Partial()


def _digest(url: str) -> str:
    """A URL may hold a secret in its query, so it is not written down."""
    return hashlib.sha256(url.encode()).hexdigest()
