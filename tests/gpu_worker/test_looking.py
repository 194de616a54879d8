from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.looking import look_at
from gpu_worker.roll_events import Looked, LookFailed
from tests.fakes.clock import ManualClock
from tests.fakes.revisions import SignedSource
from tests.fakes.rolling import model
from wire.errors import SourceUnavailableError
from wire.sources.failover import Failover
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore

ONE, TWO = model(1), model(2)
YEAR_S = 365 * 86_400.0


class Place:
    """A source, and who trusts its publisher."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(2e9)
        self.source = SignedSource(clock=self.clock)
        store = TrustStore(folder, self.source.root, clock=self.clock)
        self.trust = TrustClient(Failover([self.source]), store)

    async def look(self, channel: str = "stable") -> Looked | LookFailed:
        return await look_at(self.trust, "chat", channel)

    def is_away(self) -> None:
        self.source.down = SourceUnavailableError("is away")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_it_tells_the_pointer_and_what_is_signed(place: Place) -> None:
    place.source.publish(TWO, channel=None)
    place.source.publish(ONE)
    seen = await place.look()
    assert isinstance(seen, Looked)
    assert (seen.pointer.revision, set(seen.signed)) == (ONE.id, {ONE.id, TWO.id})
    assert (seen.stale, seen.doubt) == ("", "")


async def test_without_a_source_what_was_verified_earlier_holds_and_the_doubt_is_told(
    place: Place,
) -> None:
    place.source.publish(ONE)
    await place.look()
    place.is_away()
    seen = await place.look()
    assert isinstance(seen, Looked)
    assert seen.pointer.revision == ONE.id
    assert seen.doubt.startswith("serving what was verified earlier: source_unavailable: ")
    place.clock.advance(YEAR_S)
    seen = await place.look()
    assert isinstance(seen, Looked)
    assert seen.stale != ""


async def test_a_look_that_sees_nothing_says_why(place: Place) -> None:
    place.source.publish(ONE)
    missing = await place.look("nightly")
    assert isinstance(missing, LookFailed)
    assert "nightly" in missing.why


async def test_without_metadata_ever_there_is_nothing_to_see(place: Place) -> None:
    place.is_away()
    seen = await place.look()
    assert isinstance(seen, LookFailed)
    assert seen.why.startswith("source_unavailable: ")
