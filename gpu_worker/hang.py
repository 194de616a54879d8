"""Decides whether an engine hangs. Pure.

Two signs, because either can stand still while the other goes on:

* **Stalled**: requests run and none of them has been heard of for ``stall_s``: no token, and no
  progress with its prompt. One that goes on clears all, since an engine works on all in turn.
* **Silent**: the engine's own health check has not been answered well for ``silent_s``, whether
  something runs or not. A frozen process is found so, and one whose HTTP threads are all stuck.

Whoever looks may have been frozen itself (a suspended machine, a starved worker): a look that comes
much too late forgives what it cannot know.
"""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HangConfig:
    """When an engine counts as hanging; then it is killed and started again."""

    stall_s: float = 120.0
    """Without a token or progress while requests run. Must be longer than one batch of a prompt
    takes: a 70B model that is mostly on the CPU needs more than a minute for 512 tokens."""
    silent_s: float = 15.0
    """Without a good answer to the health check."""
    health_s: float = 2.0
    """Between two health checks, at most."""

    def __post_init__(self) -> None:
        if min(self.stall_s, self.silent_s, self.health_s) <= 0:
            raise ConfigError("hang: stall_s, silent_s and health_s must be over 0")

    @property
    def look_s(self) -> float:
        """How often to look, so that a hang is found at most a quarter late."""
        return min(self.stall_s / 4, self.silent_s / 4, self.health_s)


class HangWatch:
    """What is known of one life of an engine.

    Args:
        now_s: monotonic, as in all methods.
    """

    def __init__(self, config: HangConfig, now_s: float) -> None:
        self._config = config
        self._heard_s = self._answered_s = self._looked_s = now_s

    def answered(self, now_s: float) -> None:
        """The health check was answered well."""
        self._answered_s = now_s

    def look(self, now_s: float, *, running: bool, heard: bool) -> str:
        """Why the engine counts as hanging; empty: it does not.

        Args:
            running: whether any request waits for it.
            heard: whether it has said anything to one of them since the last look.
        """
        config = self._config
        late_s = now_s - self._looked_s - config.look_s
        self._looked_s = now_s
        if late_s > config.look_s + 1.0:
            self._heard_s += late_s
            self._answered_s += late_s
        if heard or not running:
            self._heard_s = now_s
        if now_s - self._heard_s >= config.stall_s:
            return f"no token and no progress for {config.stall_s:g} s while requests run"
        if now_s - self._answered_s >= config.silent_s:
            return f"no answer to its health check for {config.silent_s:g} s"
        return ""
