"""Which policy is in force for a caller: the policy file, read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from edge_tier.gateway.policy_file import DEFAULT, MAX_FILE_BYTES, Policy, PolicyFile, read_policies
from edge_tier.gateway.request import Caller, PersonalAction, Privacy, Rules
from wire.errors import ConfigError

_log = structlog.get_logger("policies")
_MAX_KNOWN = 10_000
_STRICT: tuple[PersonalAction, ...] = ("off", "flag", "restore", "mask", "block")
_Signature = tuple[int, int, int]


class PolicyBook:
    """Policies by caller.

    A change of the file is in force within two looks: it is read when it looks the same twice, so
    that half of a file which is just being written is not taken for all of it. One that cannot be
    used is reported once, and what was read last stays in force. A key whose policy is not there
    (any more) has the ``default``, and stays local.

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
        self._seen: _Signature | None = None
        """Of the file that was read last, usable or not."""
        self._changed: _Signature | None = None
        """At the last look, where that was not ``_seen``."""
        self._reported = ""
        self._known: dict[int, tuple[Caller, Policy]] = {}
        self._laid_over: dict[tuple[str, str, str | None], Policy] = {}
        if path is not None:
            self._seen = _signature(path)
            self._use(read_policies(_read(path)))

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
            name, privacy = DEFAULT, "local"
            policy = self._file.policies[DEFAULT]
        key = (name, privacy, own.personal_data)
        found = self._laid_over.get(key)
        if found is None:
            rules = _laid_over(policy.rules, privacy, own.personal_data)
            found = self._laid_over[key] = Policy(rules, policy.table)
        return found

    def _look(self, path: Path) -> None:
        self._next_look_s = self._clock() + self._look_every_s
        try:
            signature = _signature(path)
            if signature == self._seen:
                self._changed, self._reported = None, ""
            elif signature != self._changed:
                self._changed = signature
            else:
                self._read_again(path, signature)
        except ConfigError as error:
            # What cannot be opened is tried at every look, but reported once.
            if error.message != self._reported:
                self._reported = error.message
                _log.error(
                    "policy file unusable, the last one stays in force", reason=error.message
                )

    def _read_again(self, path: Path, signature: _Signature) -> None:
        data = _read(path)
        # Noted before it is understood: an unusable file is not parsed at every look.
        self._seen = signature
        self._use(read_policies(data))
        _log.info("policies read again", policies=sorted(self._file.policies))

    def _use(self, file: PolicyFile) -> None:
        self._file = file
        self._known.clear()
        self._laid_over.clear()
        if self._on_change is not None:
            self._on_change(file)


def _laid_over(rules: Rules, privacy: Privacy, personal: PersonalAction | None) -> Rules:
    """A policy's rules with what a key says over them.

    Local stays local. A key's own action on personal data is meant for all kinds, but a kind that
    the policy treats more strictly is treated so.
    """
    kinds = rules.personal_kinds
    if personal is not None:
        kinds = {kind: max(action, personal, key=_STRICT.index) for kind, action in kinds.items()}
    return msgspec.structs.replace(
        rules,
        privacy="local" if "local" in (privacy, rules.privacy) else "any",
        personal_data=personal or rules.personal_data,
        personal_kinds=kinds,
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read policy file {path}: {error.strerror}") from error


def _signature(path: Path) -> _Signature:
    """Differs whenever the file was replaced or written."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read policy file {path}: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
