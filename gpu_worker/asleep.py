"""What stands in an engine's place while its model sleeps: on disk, checked, not in memory.

It is an engine (``gpu_worker.engine.Engine``) that never gets ready and has no slots, so a roll
handles it as any other, and requests wait in the queue until ``Serving.flip`` puts a real one in
its place.
"""

from __future__ import annotations

import asyncio

from gpu_worker.engine import (
    Embeddings,
    EngineUnavailableError,
    Generation,
    Probe,
    Slots,
    TokenStream,
)
from wire.golden import Expectations
from wire.workers import Fault


class Asleep:
    """A model that is not in memory. Needs a running event loop.

    Args:
        features: of its engine when it was last up (``gpu_worker.engine.Engine.features``).
    """

    ready = False
    capacity = 0
    base_url = ""
    fault: Fault = ""

    def __init__(self, model: str, revision: str, features: frozenset[str]) -> None:
        self.model = model
        self.revision = revision
        self.features = features
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Nothing: it is started by what takes its place."""

    async def probe(self, golden: Expectations | None = None) -> Probe:  # noqa: ARG002
        """Raises ``EngineUnavailableError``: there is nothing to ask."""
        raise self._unavailable()

    async def health(self) -> bool:
        return False

    def stream(self, request: Generation) -> TokenStream:  # noqa: ARG002
        """Raises ``EngineUnavailableError``: it has no slot, so nobody has a right to ask."""
        raise self._unavailable()

    async def tokenize(
        self,
        text: str,  # noqa: ARG002
        *,
        add_special: bool = False,  # noqa: ARG002
        parse_special: bool = False,  # noqa: ARG002
    ) -> list[int]:
        """Raises ``EngineUnavailableError``."""
        raise self._unavailable()

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:  # noqa: ARG002
        """Raises ``EngineUnavailableError``."""
        raise self._unavailable()

    async def slots(self) -> Slots:
        return Slots(0, 0)

    async def aclose(self) -> None:
        """It is given up; may be called twice."""
        self.give_up("closed")

    def give_up(self, why: str) -> None:
        """It could not be woken: treated like an engine that keeps dying."""
        if not self.dead.done():
            self.dead.set_result(why)

    def _unavailable(self) -> EngineUnavailableError:
        return EngineUnavailableError(f"{self.model} sleeps; ask again")
