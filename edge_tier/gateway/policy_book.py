"""Which policy is in force for a caller: the policy file, read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from edge_tier.gateway.policy_file import DEFAULT, MAX_FILE_BYTES, Policy, PolicyFile, read_policies
from edge_tier.gateway.request import Caller
from wire.errors import ConfigError

_log = structlog.get_logger("policies")
_MAX_KNOWN = 10_000


class PolicyBook:
    """Policies by caller.

    A change of the file is in force within ``look_every_s``. One that cannot be used is reported,
    and what was read last stays in force. A key whose policy is not there (any more) has the
    ``default`` with everything in it that is strict: it stays local.

    Args:
        path: the policy file; None: every caller has the built-in default.
        clock: monotonic seconds.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_every_s: float = 0.25,
        on_change: Callable[[PolicyFile], None] | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._look_every_s = look_every_s
        self._on_change = on_change
        self._next_look_s = clock() + look_every_s
        self._file = PolicyFile()
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[int, tuple[Caller, Policy]] = {}
        self._laid_over: dict[tuple[str, str, str | None], Policy] = {}
        if path is not None:
            self._seen = _signature(path)
            self._load(path)

    def of(self, caller: Caller) -> Policy:
        """The policy in force: always the same object as long as nothing changes."""
        if self._path is not None and self._clock() >= self._next_look_s:
            self._look(self._path)
        known = self._known.get(id(caller))
        if known is not None and known[0] is caller:
            return known[1]
        policy = self._found(caller)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[id(caller)] = (caller, policy)
        return policy

    def _found(self, caller: Caller) -> Policy:
        own = caller.policy
        name = own.name or self._file.tenants.get(caller.tenant, DEFAULT)
        policy = self._file.policies.get(name)
        privacy = own.privacy
        if policy is None:
            _log.error(
                "a key's policy is not there; it stays local", key=caller.key_id, policy=name
            )
            policy, privacy = self._file.policies[DEFAULT], "local"
        key = (name, privacy, own.personal_data)
        found = self._laid_over.get(key)
        if found is None:
            rules = policy.rules
            changed = msgspec.structs.replace(
                rules,
                privacy="local" if "local" in (privacy, rules.privacy) else "any",
                personal_data=own.personal_data or rules.personal_data,
            )
            found = self._laid_over[key] = Policy(changed, policy.table)
        return found

    def _look(self, path: Path) -> None:
        self._next_look_s = self._clock() + self._look_every_s
        try:
            signature = _signature(path)
            if signature != self._seen:
                # Noted first: an unusable file is reported once, not at every look.
                self._seen = signature
                self._load(path)
                _log.info("policies read again", policies=sorted(self._file.policies))
        except ConfigError as error:
            _log.error("policy file unusable, the last one stays in force", reason=error.message)

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"cannot read policy file {path}: {error.strerror}") from error
        self._file = read_policies(data)
        self._known.clear()
        self._laid_over.clear()
        if self._on_change is not None:
            self._on_change(self._file)


def _signature(path: Path) -> tuple[int, int, int]:
    """Differs whenever the file was replaced or written."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read policy file {path}: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
