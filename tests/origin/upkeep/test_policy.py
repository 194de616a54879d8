from __future__ import annotations

import pytest

from origin.upkeep.policy import GcConfig, expendable, reasons
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.sites import make_site, page
from tests.fakes.upkeep import Shelf
from wire.channel import Canary
from wire.trust import TrustView

REVISIONS = [make_revision({"m.gguf": [chunk_of(number)]}) for number in range(6)]
OTHER = make_revision({"m.gguf": [chunk_of(9)]}, model="other")
DAY_S = 86_400.0


@pytest.fixture
async def view() -> TrustView:
    """Six revisions of a model: ``stable`` on the first, its canary on the second; one of
    another."""
    shelf = Shelf()
    publisher = await shelf.origin()
    for revision in (*REVISIONS, OTHER):
        await shelf.publish(publisher, revision, channel="")
    return publisher.repository.set_channel(
        "chat",
        "stable",
        REVISIONS[0].id,
        canary=Canary(revision=REVISIONS[1].id, percent=5),
        now=shelf.now,
    ).repository.view


PUBLISHED = {revision.id: number * DAY_S for number, revision in enumerate((*REVISIONS, OTHER))}


def names(found: list[tuple[str, str]]) -> list[int]:
    return sorted([r.id for r in (*REVISIONS, OTHER)].index(revision) for _, revision in found)


def test_channels_canaries_pins_and_the_newest_stay(view: TrustView) -> None:
    config = GcConfig(keep_recent=2, keep_younger_s=0.0)
    pins = {("chat", REVISIONS[2].id)}
    assert names(expendable(view, pins, PUBLISHED, config, 100 * DAY_S)) == [3]
    why = {REVISIONS.index(r): why for r in REVISIONS if (why := reasons(
        view, pins, PUBLISHED, config, 100 * DAY_S
    ).get(("chat", r.id)))}  # fmt: skip
    assert why == {
        0: "channel stable",
        1: "channel stable",
        2: "pinned",
        4: "recent",
        5: "recent",
    }


def test_every_model_has_its_own_newest(view: TrustView) -> None:
    config = GcConfig(keep_recent=1, keep_younger_s=0.0)
    assert names(expendable(view, set(), PUBLISHED, config, 100 * DAY_S)) == [2, 3, 4]


def test_the_young_stay(view: TrustView) -> None:
    config = GcConfig(keep_recent=0, keep_younger_s=3 * DAY_S)
    assert names(expendable(view, set(), PUBLISHED, config, 6 * DAY_S)) == [2, 3]


def test_a_revision_whose_age_nobody_knows_is_old(view: TrustView) -> None:
    config = GcConfig(keep_recent=0, keep_younger_s=3 * DAY_S)
    assert names(expendable(view, set(), {}, config, 100 * DAY_S)) == [2, 3, 4, 5, 6]


async def test_what_open_pages_may_still_ask_for_stays() -> None:
    shelf = Shelf()
    publisher = await shelf.origin()
    builds = [make_site(page(number)) for number in range(7)]
    for build in builds:
        await shelf.publish(publisher, build)
    config = GcConfig(keep_recent=0, keep_younger_s=0.0)
    after = publisher.repository.view
    gone = expendable(after, set(), {}, config, 100 * DAY_S)
    assert {revision for _, revision in gone} == {build.id for build in builds[:2]}
    why = reasons(after, set(), {}, config, 100 * DAY_S)
    assert why["site", builds[6].id] == "channel stable"
    assert why["site", builds[5].id] == "before the current one of stable"
