"""One run of the load generator against one gateway, with the CPU that the gateway took."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from tests.benchmarks.load import Job, Seen
from tests.benchmarks.processes import python_module
from tests.benchmarks.prompt_plane.peers import Gateway
from tests.benchmarks.results import Row
from tests.fakes.processes import cpu_seconds


@dataclass(slots=True)
class Figures:
    """Single values by figure and gateway, in the order of the runs."""

    runs: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, figure: str, gateway: str, value: float) -> None:
        """One run's value."""
        self.runs[figure][gateway].append(value)

    def row(
        self,
        figure: str,
        unit: str,
        peer: str,
        target: float | None = None,
        *,
        of: str = "headwater edge",
        higher_is_better: bool = False,
    ) -> Row:
        """A row of ours against a peer's; the peer's is empty where it is not installed."""
        runs = self.runs[figure]
        return Row(
            name=f"{figure} (vs {peer})" if of == "headwater edge" else f"{figure}, {of}",
            unit=unit,
            runs=runs[of],
            peer=peer,
            peer_runs=runs.get(peer, ()),
            target=target,
            higher_is_better=higher_is_better,
        )


async def load(gateway: Gateway, job: Job) -> tuple[Seen, float]:
    """What the generator saw, and the CPU seconds of the gateway's whole process tree.

    Raises:
        RuntimeError: a request failed.
    """
    asked = msgspec.structs.replace(job, url=gateway.url, headers=job.headers or gateway.headers)
    before = cpu_seconds(gateway.pid)
    process = await asyncio.create_subprocess_exec(
        *python_module("load", msgspec.json.encode(asked).decode()), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    used = cpu_seconds(gateway.pid) - before
    seen = msgspec.json.decode(output, type=Seen)
    if seen.failures:
        raise RuntimeError(f"{gateway.name}: {seen.failures} of {seen.answers} requests failed")
    return seen, used
