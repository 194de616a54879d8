from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.repair import Repair, StoreShelf, Suppliers, open_suppliers
from infra.upkeep import UpkeepAdmin
from origin.errors import StoreError
from origin.store import ObjectStore
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.tier import Canned, StubTier, stub_tier
from wire.chunk import chunk_id
from wire.errors import ConfigError, NotFoundError
from wire.paths import chunk_path, manifest_path

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)], "a.txt": [chunk_of(3)]})
TWO = make_revision({"m.gguf": [chunk_of(1), chunk_of(4)]})


def all_of(*revisions: Revision) -> dict[str, Canned]:
    """What an edge answers that has these revisions whole."""
    return {
        **{f"GET {manifest_path(r.id)}": Canned(r.data) for r in revisions},
        **{
            f"GET {chunk_path(id)}": Canned(data)
            for r in revisions
            for id, data in r.chunks.items()  # noqa: A001
        },
    }


@pytest.fixture
def edges() -> Iterator[tuple[StubTier, StubTier]]:
    """Two that have nothing yet."""
    with ExitStack() as stack:
        yield stack.enter_context(stub_tier({})), stack.enter_context(stub_tier({}))


@pytest.fixture
def suppliers(edges: tuple[StubTier, StubTier]) -> Iterator[Suppliers]:
    made = open_suppliers([edge.url for edge in edges])
    yield made
    made.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[StoreShelf]:
    with asyncio.Runner() as runner:
        yield StoreShelf(ObjectStore(str(tmp_path / "store")), runner)


@pytest.fixture
def origin() -> Iterator[StubTier]:
    with stub_tier({}) as made:
        yield made


def paths(edge: StubTier) -> list[str]:
    return [received.path for received in edge.received]


def test_repair_takes_only_what_proves_itself(origin: StubTier) -> None:
    first, second, third = ONE.chunks
    good = {f"GET {chunk_path(first)}": Canned(ONE.chunks[first])}
    lie = {f"GET {chunk_path(second)}": Canned(b"lie")}
    origin.answers[f"PUT /admin/chunks/{first}"] = Canned(status=204)
    report = {"missing": [first, second, third], "bad_manifests": {}}
    with stub_tier(good | lie) as source, UpkeepAdmin(origin.url, "secret") as admin:
        suppliers = open_suppliers([source.url])
        repair = Repair(admin, suppliers)
        repair.run(report)
        suppliers.close()
    assert repair.chunks == 1
    assert sorted(repair.failed) == sorted([second, third])
    puts = [received for received in origin.received if received.method == "PUT"]
    assert [put.body for put in puts] == [ONE.chunks[first]]


def test_repair_brings_a_manifest_with_the_chunks_that_it_needs(origin: StubTier) -> None:
    (needed,) = TWO.chunks.keys() - ONE.chunks.keys()
    origin.answers["POST /admin/chunks/missing"] = Canned({"missing": [needed]})
    origin.answers[f"PUT /admin/chunks/{needed}"] = Canned(status=204)
    origin.answers[f"PUT /admin/manifests/{TWO.id}"] = Canned(status=204)
    with stub_tier(all_of(TWO)) as source, UpkeepAdmin(origin.url, "secret") as admin:
        suppliers = open_suppliers([source.url])
        repair = Repair(admin, suppliers)
        repair.run({"missing": [], "bad_manifests": {TWO.id: "rotten"}})
        suppliers.close()
    assert (repair.chunks, repair.manifests, repair.failed) == (1, 1, {})
    assert origin.received[-1].path == f"/admin/manifests/{TWO.id}"


def test_what_one_lies_about_another_gives(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers, shelf: StoreShelf
) -> None:
    edges[0].answers |= {name: Canned(b"lie") for name in all_of(ONE)}
    edges[1].answers |= all_of(ONE)
    repair = Repair(shelf, suppliers)
    assert repair.revision(ONE.id, len(ONE.data))
    assert (repair.chunks, repair.chunk_bytes, repair.failed) == (3, ONE.unique_bytes, {})
    assert shelf.lacking(map(chunk_id, ONE.chunks)) == []
    # Who gave last is asked first, so the liar cost one request.
    assert len(edges[0].received) == 1


def test_a_revision_comes_from_those_who_have_its_parts(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers, shelf: StoreShelf
) -> None:
    for number, (name, answer) in enumerate(all_of(ONE, TWO).items()):
        edges[number % 2].answers[name] = answer
    steps: list[tuple[str, int, int]] = []
    repair = Repair(shelf, suppliers, lambda *step: steps.append(step))
    assert repair.revision(ONE.id, len(ONE.data))
    assert repair.revision(TWO.id, len(TWO.data))
    assert repair.chunks == len(ONE.chunks.keys() | TWO.chunks.keys())
    assert steps[2] == (f"chat {ONE.id[:8]}", 3_000, 3_000)
    assert steps[3] == (f"chat {TWO.id[:8]}", 1_000, 1_000)


def test_a_manifest_is_no_larger_than_it_was_signed(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers, shelf: StoreShelf
) -> None:
    edges[0].answers |= all_of(ONE)
    repair = Repair(shelf, suppliers)
    assert not repair.revision(ONE.id, len(ONE.data) - 1)
    assert repair.chunks == 0
    assert repair.failed.keys() == {ONE.id}


def test_what_was_taken_down_is_not_brought(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers, shelf: StoreShelf
) -> None:
    edges[0].answers |= all_of(ONE)
    repair = Repair(shelf, suppliers)
    assert not repair.revision(ONE.id, len(ONE.data), without=frozenset(ONE.chunks))
    assert repair.chunks == 0
    assert "taken down" in repair.failed[ONE.id]


def test_a_store_that_is_full_ends_it(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers, tmp_path: Path
) -> None:
    edges[0].answers |= all_of(ONE)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "chunks").write_bytes(b"no folder")
    with asyncio.Runner() as runner:
        repair = Repair(StoreShelf(ObjectStore(str(tmp_path / "store")), runner), suppliers)
        with pytest.raises(StoreError, match="cannot"):
            repair.revision(ONE.id, len(ONE.data))
    assert repair.failed == {}


def test_who_fails_again_and_again_is_passed_over(
    edges: tuple[StubTier, StubTier], suppliers: Suppliers
) -> None:
    broken = Canned({"detail": "no upstream"}, 502)
    edges[0].answers |= {f"GET {chunk_path(f'{n:064x}')}": broken for n in range(9)}
    for number in range(9):
        with pytest.raises(NotFoundError, match=edges[1].url.removeprefix("http://")):
            suppliers.chunk(chunk_id(f"{number:064x}"))
    assert len(edges[0].received) == 3
    assert len(edges[1].received) == 9  # it only does not have them
    suppliers.ask_all_again()
    with pytest.raises(NotFoundError, match="status 502"):
        suppliers.chunk(chunk_id(f"{0:064x}"))


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="source URL"):
        open_suppliers(["edge-1:7401"])
