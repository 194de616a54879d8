"""A victim, and what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from origin.offline import sign_revisions, sign_targets
from origin.signing import Repository
from tests.fakes.hostile_edge import HostileEdge, hostile_edge
from tests.fakes.trust_victim import (
    LIMITS,
    NOW,
    ONLINE,
    PUBLISHER,
    TWO,
    Clock,
    Thief,
    Victim,
    published,
    reaching,
)
from wire.trust_bundle import (
    REVISIONS,
    TARGETS,
)
from wire.trust_store import TrustStore


@pytest.fixture(scope="module")
def repository() -> Repository:
    return published()


@pytest.fixture(scope="module")
def later(repository: Repository) -> Repository:
    """After a publish and a roll: every role but root and targets has a newer version."""
    signed = sign_revisions(
        repository.trusted.bundle.roles[REVISIONS], PUBLISHER, [("chat", "f" * 64, 9)], now=NOW
    )
    after = repository.accept_revisions(signed, now=NOW).repository
    after = after.set_channel("chat", "stable", TWO, now=NOW).repository
    renewed = sign_targets(
        PUBLISHER,
        online=ONLINE.public_key,
        now=NOW,
        previous=after.trusted.bundle.roles[TARGETS],
    )
    return after.accept(targets=renewed, now=NOW).repository


@pytest.fixture
def edge() -> Iterator[HostileEdge]:
    with hostile_edge() as edge:
        yield edge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trust"


@pytest.fixture
async def cold(edge: HostileEdge, repository: Repository, folder: Path) -> AsyncIterator[Victim]:
    """A victim that has only the root it was installed with."""
    clock = Clock()
    store = TrustStore(folder, repository.first_root, clock=clock, limits=LIMITS)
    async with reaching(edge) as (source,):
        yield Victim(edge, source, store, clock)


@pytest.fixture
async def held(cold: Victim, repository: Repository) -> Victim:
    """The same after an honest update."""
    await cold.takes(repository.trusted.bundle)
    return cold


@pytest.fixture
def thief(repository: Repository) -> Thief:
    return Thief(repository.trusted.bundle)
