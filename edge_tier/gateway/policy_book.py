"""Which policy is in force for a caller: the policy file, read again when it changes."""

from __future__ import annotations

import asyncio
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


class _InForce:
    """A file with what was made of it. Replaced as one, since it is read in another thread."""

    __slots__ = ("file", "known", "laid_over")

    def __init__(self, file: PolicyFile) -> None:
        self.file = file
        self.known: dict[int, tuple[Caller, Policy]] = {}
        self.laid_over: dict[tuple[str, Privacy, PersonalAction | None], Policy] = {}


class PolicyBook:
    """Policies by caller.

    While :meth:`run` runs, a change of the file is in force within two looks: it is read when it
    looks the same twice, so that half of a file which is just being written is not taken for all of
    it. One that cannot be used is reported once, and what was read last stays in force. A key whose
    policy is not there (any more) has the ``default``, and stays local.

    Args:
        path: the policy file; None: every caller has the built-in default.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, path: Path | None = None, *, look_every_s: float = 0.25) -> None:
        self._path = path
        self._look_every_s = look_every_s
        self._seen: _Signature | None = None
        """Of the file that was read last, usable or not."""
        self._changed: _Signature | None = None
        """At the last look, where that was not ``_seen``."""
        self._reported = ""
        if path is None:
            self._state = _InForce(PolicyFile())
        else:
            self._seen = _signature(path)
            self._state = _InForce(load_policies(path))

    def of(self, caller: Caller) -> Policy:
        """The policy in force: always the same object as long as nothing changes."""
        state = self._state
        known = state.known.get(id(caller))
        # An entry keeps its caller alive, so an id cannot have passed on to another.
        if known is not None:
            return known[1]
        policy = _found(state, caller)
        if len(state.known) >= _MAX_KNOWN:
            state.known.clear()
        state.known[id(caller)] = (caller, policy)
        return policy

    async def run(self) -> None:
        """Follow the file until cancelled; without one there is nothing to do.

        In a thread, since a long file takes a while to read and to compile.
        """
        if self._path is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._look_every_s)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Look at the file, and read it if it has changed; whether other policies are in force."""
        path = self._path
        if path is None:
            return False
        try:
            signature = _signature(path)
            if signature == self._seen:
                self._changed, self._reported = None, ""
            elif signature != self._changed:
                self._changed = signature
            else:
                self._read_again(path, signature)
                return True
        except ConfigError as error:
            # What cannot be opened is tried at every look, but reported once.
            if error.message != self._reported:
                self._reported = error.message
                _log.error(
                    "policy file unusable, the last one stays in force", reason=error.message
                )
        return False

    def _read_again(self, path: Path, signature: _Signature) -> None:
        data = _read(path)
        # Noted before it is understood: an unusable file is not parsed at every look.
        self._seen = signature
        self._state = _InForce(read_policies(data))
        _log.info("policies read again", policies=sorted(self._state.file.policies))


def load_policies(path: Path) -> PolicyFile:
    """Read a policy file from disk.

    Raises:
        ConfigError: it cannot be read, or not be used; says why and where.
    """
    return read_policies(_read(path))


def _found(state: _InForce, caller: Caller) -> Policy:
    own = caller.policy
    name = own.name or state.file.tenants.get(caller.tenant, DEFAULT)
    policy = state.file.policies.get(name)
    privacy = own.privacy
    if policy is None:
        _log.error("a key's policy is not there; it stays local", key=caller.key_id, policy=name)
        name, privacy = DEFAULT, "local"
        policy = state.file.policies[DEFAULT]
    key = (name, privacy, own.personal_data)
    found = state.laid_over.get(key)
    if found is None:
        rules = _laid_over(policy.rules, privacy, own.personal_data)
        found = state.laid_over[key] = Policy(rules, policy.table, policy.screens)
    return found


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
