"""Warm-ups of an edge, from outside: begin, watch, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from infra.edge_admin import EdgeAdmin
from infra.errors import RefusedError
from wire.paths import ADMIN

POLL_S = 0.2
Job = dict[str, Any]
Progress = Callable[[str, int, int], None]


class WarmAdmin(EdgeAdmin):
    """Filling an edge's cache before anybody asks."""

    def warm(self, model: str, channel: str, *, variant: str = "", pin: bool = False) -> Job:
        """Begin, or join what runs already; the job as it stands."""
        wanted = {"model": model, "channel": channel, "variant": variant, "pin": pin}
        return self._send("POST", f"{ADMIN}/warm", msgspec.json.encode(wanted))

    def job(self, id: str) -> Job:  # noqa: A002
        """A job as it stands."""
        return self._json(self._get(f"{ADMIN}/warm/{id}"))

    def cancel(self, id: str) -> Job:  # noqa: A002
        """Stop a job; what it fetched stays."""
        return self._send("DELETE", f"{ADMIN}/warm/{id}", b"")

    def unpin(self, model: str, channel: str) -> Job:
        """Have the edge keep a channel no longer."""
        return self._send("DELETE", f"{ADMIN}/pins/{model}/{channel}", b"")

    def watch(self, job: Job, progress: Progress, *, poll_s: float = POLL_S) -> Job:
        """Wait until a job has ended. Whoever interrupts that cancels the job.

        Raises:
            RefusedError: it failed, or somebody cancelled it; says why.
        """
        try:
            while job["state"] == "running":
                progress("fetched" if job["fetched_bytes"] else "looked at", *_bytes(job))
                time.sleep(poll_s)
                job = self.job(job["id"])
        except KeyboardInterrupt:
            self.cancel(job["id"])
            raise
        if job["state"] != "done":
            reason = job["reason"] or "somebody cancelled it; start it again to go on"
            raise RefusedError(f"{self.url}: warm-up of {job['model']} {job['state']}: {reason}")
        return job


def _bytes(job: Job) -> tuple[int, int]:
    return int(job["done_bytes"]), int(job["bytes"])
