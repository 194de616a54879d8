"""Keeps what was verified: across updates, across restarts, and across processes of one machine.

The state is one file: the last verified bundle, with every root since the provisioned one. It is
replaced by rename, so a process that dies in the middle leaves the old state or the new, never a
mixture. Reading it back verifies it again from the provisioned root; only expiry is not judged
then, so a client whose origin is away starts with what it had, flagged as expired where it is.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wire.chunk import hash_chunk
from wire.errors import ConfigError, NotFoundError, TrustError, TrustExpiredError, TrustStateError
from wire.files import sync_folder
from wire.trust import Trusted, TrustView, root_version, verify
from wire.trust_bundle import TrustBundle, TrustLimits, decode_bundle, encode_bundle

STATE_NAME = "trust.json"


class TrustStore:
    """The trusted state of one client. Synchronous, and safe to call from several threads.

    ``problem`` is empty, or says why the state on disk was not used: it is then as if there were
    none, until the next update replaces it. What is lost is the memory of versions: for that one
    update a rollback goes unseen, but no further back than the timestamp's lifetime.

    Args:
        folder: where the state is kept; made where it is missing. Processes may share it.
        initial_root: the root.json that came with the installation, not over the network.
        clock: seconds since 1970.

    Raises:
        ConfigError: ``initial_root`` is none.
    """

    def __init__(
        self,
        folder: Path,
        initial_root: bytes,
        *,
        clock: Callable[[], float] = time.time,
        limits: TrustLimits | None = None,
    ) -> None:
        self._file = _StateFile(folder)
        self._initial_root = initial_root
        self._clock = clock
        self._limits = limits or TrustLimits()
        self._lock = threading.Lock()
        self._trusted: Trusted | None = None
        self._on_disk: TrustBundle | None = None
        self._accepted = ""
        self.problem = ""
        try:
            self._initial_version = root_version(initial_root)
        except TrustError as error:
            raise ConfigError(
                f"the provisioned root cannot be used ({error}); copy the publisher's root.json "
                "here again"
            ) from error
        self._load()

    @property
    def root_version(self) -> int:
        """The version of the newest trusted root; what a bundle is asked for with."""
        trusted = self._trusted
        return trusted.view.versions["root"] if trusted else self._initial_version

    @property
    def view(self) -> TrustView | None:
        """What was verified last, expired or not; None before the first update ever."""
        trusted = self._trusted
        return trusted.view.at(self._clock()) if trusted else None

    def update(self, bundle: bytes) -> TrustView:
        """Verify a bundle, keep it, and say what it holds. A failure changes nothing.

        Raises:
            TrustError: bad signature, rollback, mix-and-match, malformed, or over a limit.
            TrustExpiredError: it is past its expiry: a freeze, or a wrong clock.
            TrustStateError: it could not be kept on disk.
        """
        with self._lock, self._file.locked():
            if self._file.changed():
                self._load()
            now = self._clock()
            digest = hash_chunk(bundle)
            if self._trusted and digest == self._accepted:
                return _unexpired(self._trusted.view, now)
            trusted = self._verify(decode_bundle(bundle, self._limits), now)
            self._keep(trusted)
            self._accepted = digest
            return trusted.view

    def bundle(self, root_version: int) -> bytes:
        """The last verified files, for passing on to a client that trusts ``root_version``.

        Raises:
            NotFoundError: nothing verified yet, or the client's root is older than the provisioned.
        """
        trusted = self._trusted
        if trusted is None or root_version < self._initial_version - 1:
            raise NotFoundError(f"no trust metadata here that follows root {root_version}")
        roots = {self._initial_version: self._initial_root, **trusted.bundle.roots}
        return encode_bundle(TrustBundle(trusted.bundle.roles, roots).after(root_version))

    def _verify(self, bundle: TrustBundle, now: float | None) -> Trusted:
        """Against what is held, whose earlier roots are kept so that the state stands alone."""
        held = self._trusted.bundle if self._trusted else None
        roots = held.roots if held else {}
        anchor = roots[self.root_version] if roots else self._initial_root
        fresh = bundle.after(self.root_version)
        trusted = verify(fresh, anchor=anchor, held=held, now=now, limits=self._limits)
        kept = TrustBundle(trusted.bundle.roles, {**roots, **trusted.bundle.roots})
        return Trusted(kept, trusted.view)

    def _keep(self, trusted: Trusted) -> None:
        if trusted.bundle != self._on_disk:
            state = encode_bundle(trusted.bundle)
            decode_bundle(state, self._limits)  # what is written can be read back
            self._file.write(state)
            self._on_disk = trusted.bundle
        self._trusted = trusted
        self.problem = ""

    def _load(self) -> None:
        """Read the state, verified anew; one that does not verify counts as none."""
        self._on_disk, self._accepted = None, ""
        try:
            state = self._file.read(self._limits.bundle_bytes)
            if state is not None:
                self._trusted = self._verify(decode_bundle(state, self._limits), None)
                self._on_disk, self.problem = self._trusted.bundle, ""
        except TrustError as error:
            self.problem = f"state in {self._file.path} is not used: {error}"


def _unexpired(view: TrustView, now: float) -> TrustView:
    if view.at(now).expired:
        role = min(view.expires, key=lambda role: view.expires[role])
        raise TrustExpiredError(
            f"trust metadata has not changed and has expired ({role}); the origin no longer "
            "renews it, or somebody withholds it"
        )
    return view


class _StateFile:
    """One file, replaced whole, under a lock that processes share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE_NAME
        self._folder = folder
        self._seen: tuple[int, int] | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._errors("lock"):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / f"{STATE_NAME}.lock").open("wb")
        with lock:
            with self._errors("lock"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def changed(self) -> bool:
        """Whether another process has replaced the file since it was last read or written."""
        return self._stamp() != self._seen

    def read(self, limit: int) -> bytes | None:
        """The file's bytes (one more than ``limit`` at most), or None where there is none."""
        with self._errors("read"):
            self._seen = self._stamp()
            try:
                with self.path.open("rb") as stream:
                    return stream.read(limit + 1)
            except FileNotFoundError:
                return None

    def write(self, data: bytes) -> None:
        """Replace the file; when this returns, the new one survives a power cut."""
        with self._errors("write"):
            new = self.path.with_suffix(".new")
            with new.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(self.path)
            sync_folder(self._folder)
            self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrustStateError(
                f"cannot {what} the trust state {self.path}: {error.strerror}; make room, or make "
                "the folder writable"
            ) from error
