"""The log of administrative acts: append-only JSON lines of mode 600, chained by hashes.

An act is written down *before* it is done; where that is not possible (a full disk, a lost folder)
it is refused. Several processes may share the file: they take turns. All of this blocks, so a
server calls it in a thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from edge_tier.gateway.audit_records import (
    NO_HASH,
    AuditRecord,
    ChainReport,
    Outcome,
    bounded,
    check_chain,
    decode_line,
    encode_line,
    line_hash,
)
from edge_tier.gateway.private_files import exclusive, read_private
from wire.errors import ConfigError, HeadwaterError
from wire.files import sync_folder

_TAIL_BYTES = 64 * 1024
"""Many times the longest record."""
_READ_SLACK_BYTES = 1024 * 1024

_log = structlog.get_logger("audit")


class AuditError(HeadwaterError):
    """The act could not be written down, so it was not done."""

    status = 503
    code = "audit_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Where administrative acts are written down, and for how long."""

    file: Path = Path("edge-audit.jsonl")
    """JSON lines, mode 600, each with the hash of the one before; several processes may share
    it."""
    fsync: bool = True
    """Whether an act waits until its record is on the disk; without, a power cut may lose it."""
    max_bytes: int = 16 * 1024 * 1024
    """Above, the file becomes ``<file>.1`` and a new one goes on with the chain."""
    keep_files: int = 8
    """Old files kept besides; older ones are removed."""


class Act:
    """An act that was begun. ``subject`` may be set once it is known."""

    def __init__(self, subject: str) -> None:
        self.subject = subject


class AuditLog:
    """Writes and reads the log.

    Args:
        config: see there. The folder of ``file`` must exist.

    Raises:
        ConfigError: bounds that cannot be.
    """

    def __init__(self, config: AuditConfig, *, wall_clock: Callable[[], float] = time.time) -> None:
        if config.max_bytes < _TAIL_BYTES or config.keep_files < 1:
            raise ConfigError(
                f"audit: max_bytes must be at least {_TAIL_BYTES}, and keep_files at least 1"
            )
        self._config = config
        self._wall_clock = wall_clock

    @contextmanager
    def act(self, *, actor: str, action: str, subject: str, request_id: str) -> Iterator[Act]:
        """Around an act: written down before it, and with its outcome after it.

        An outcome that cannot be written is logged as an error; the act itself stands in the file.

        Raises:
            AuditError: it cannot be written down; the block was not entered.
        """
        self.write(actor, action, subject, "begun", request_id)
        act = Act(subject)
        outcome: Outcome = "failed"
        try:
            yield act
            outcome = "done"
        finally:
            try:
                self.write(actor, action, act.subject, outcome, request_id)
            except AuditError as error:
                _log.error("outcome not written", action=action, reason=error.message)

    def write(
        self, actor: str, action: str, subject: str, outcome: Outcome, request_id: str
    ) -> AuditRecord:
        """Append one record. Raises ``AuditError``; the file is then as it was before."""
        file = self._config.file
        try:
            with exclusive(file):
                seq, head = self._head()
                record = AuditRecord(
                    seq=seq + 1,
                    time=datetime.fromtimestamp(self._wall_clock(), UTC),
                    actor=bounded(actor),
                    action=bounded(action),
                    subject=bounded(subject),
                    outcome=outcome,
                    request_id=bounded(request_id),
                    prev=head,
                )
                line = encode_line(record)
                self._append(line + b"\n")
        except (ConfigError, OSError) as error:
            reason = error.message if isinstance(error, ConfigError) else error.strerror
            raise AuditError(
                f"refused, because it cannot be written to the audit log {file}: {reason}"
            ) from error
        _log.info("administrative act", **msgspec.to_builtins(record), head=line_hash(line))
        return record

    def newest(self, most: int) -> list[AuditRecord]:
        """The last records, oldest first; what is no record is passed over (see ``verify``)."""
        found: list[AuditRecord] = []
        for file in reversed(self._files()):
            records = [record for line in _lines(file) if (record := decode_line(line))]
            found = records + found
            if len(found) >= most:
                break
        return found[-most:] if most > 0 else []

    def verify(self) -> ChainReport:
        """Follow the chain over all files that are kept. Raises ``ConfigError``."""
        with exclusive(self._config.file):
            return check_chain(line for file in self._files() for line in _lines(file))

    def _files(self) -> list[Path]:
        """Oldest first."""
        old = [self._numbered(number) for number in range(self._config.keep_files, 0, -1)]
        return [file for file in (*old, self._config.file) if file.exists()]

    def _numbered(self, number: int) -> Path:
        return self._config.file.with_name(f"{self._config.file.name}.{number}")

    def _head(self) -> tuple[int, str]:
        """Number and hash of the newest record, after rotation where one is due."""
        file = self._config.file
        if file.exists() and file.stat().st_size >= self._config.max_bytes:
            self._rotate()
        for candidate in (file, self._numbered(1)):
            line = _last_line(candidate)
            if line:
                record = decode_line(line)
                if record is None:
                    raise ConfigError(f"the last line of {candidate} is no record; move it away")
                return record.seq, line_hash(line)
        return 0, NO_HASH

    def _rotate(self) -> None:
        for number in range(self._config.keep_files, 1, -1):
            younger = self._numbered(number - 1)
            if younger.exists():
                younger.replace(self._numbered(number))
        self._config.file.replace(self._numbered(1))

    def _append(self, data: bytes) -> None:
        file = self._config.file
        new = not file.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(file, flags, 0o600)
        try:
            if os.fstat(handle).st_mode & 0o077:
                raise ConfigError(f"it is open to others; run: chmod 600 {file}")
            end = _end_of_whole_lines(handle)
            try:
                _write_all(handle, data)
                if self._config.fsync:
                    os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)  # no half record, and none that was refused
                raise
        finally:
            os.close(handle)
        if new and self._config.fsync:
            sync_folder(file.parent)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _end_of_whole_lines(handle: int) -> int:
    """Cut off the rest of a line that a power cut left behind: its act was never begun."""
    size = os.fstat(handle).st_size
    tail = os.pread(handle, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if not tail or tail.endswith(b"\n"):
        return size
    end = size - len(tail) + tail.rfind(b"\n") + 1
    _log.warning("unfinished record removed", bytes=size - end)
    os.ftruncate(handle, end)
    return end


def _last_line(file: Path) -> bytes:
    """The last whole line; empty where there is none."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read()
    except FileNotFoundError:
        return b""
    whole = tail[: tail.rfind(b"\n") + 1].splitlines()
    return whole[-1] if whole else b""


def _lines(file: Path) -> list[bytes]:
    """All whole lines. Raises ``ConfigError``."""
    try:
        limit = file.stat().st_size + _READ_SLACK_BYTES
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    data = read_private(file, limit_bytes=limit)
    return data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
