from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_tier.cache.takedowns import encode_takedowns
from infra.restoring import Outcome, Wanted, restore
from origin.config import OriginConfig
from origin.documents import DAY_S
from origin.init import initialize
from origin.keys import ONLINE_KEY, PUBLISHER_KEY, load_key
from origin.offline import sign_revisions
from origin.signing import Repository
from origin.store import ObjectStore
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.tier import Canned, StubTier, stub_tier
from tests.infra.test_repair import all_of
from wire.errors import ConfigError, SourceUnavailableError, TrustError, TrustExpiredError
from wire.paths import TAKEDOWNS, TRUST_BUNDLE, manifest_path

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(1), chunk_of(4)]})
AWAY = "http://127.0.0.1:9"


@dataclass
class Lost:
    """An origin whose store is lost, and an edge that has everything."""

    config: OriginConfig
    repository: Repository
    edge: StubTier

    def restore(self, *more: str, **changes: Any) -> Outcome:
        days = changes.pop("days", 0.0)
        wanted = Wanted(edges=(*more, self.edge.url), **changes)
        return restore(self.config, wanted, clock=lambda: time.time() + days * DAY_S)

    def documents(self) -> dict[str, bytes]:
        return asyncio.run(ObjectStore(self.config.store).trust_documents())

    def manifests(self) -> set[str]:
        return set(asyncio.run(ObjectStore(self.config.store).manifests()))


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[Lost]:
    config = OriginConfig(
        store=str(tmp_path / "before"),
        keys_dir=tmp_path / "keys",
        admin_token_file=tmp_path / "token",
    )
    asyncio.run(initialize(config, "passphrase"))
    documents = asyncio.run(ObjectStore(config.store).trust_documents())
    made = Repository.load(documents, load_key(config.keys_dir / ONLINE_KEY))
    now = time.time()
    signed = sign_revisions(
        made.trusted.bundle.roles["revisions"],
        load_key(config.keys_dir / PUBLISHER_KEY),
        [("chat", r.id, len(r.data)) for r in (ONE, TWO)],
        now=now,
    )
    accepted = made.accept_revisions(signed, now=now).repository
    repository = accepted.set_channel("chat", "stable", TWO.id, now=now).repository
    with stub_tier(answers_of(repository) | all_of(ONE, TWO)) as edge:
        yield Lost(replace(config, store=str(tmp_path / "store")), repository, edge)


def answers_of(repository: Repository, *gone: str) -> dict[str, Canned]:
    return {
        f"GET {TRUST_BUNDLE}": Canned(repository.bundle(0)),
        f"GET {TAKEDOWNS}": Canned(encode_takedowns(gone)[0]),
    }


def test_a_lost_store_is_restored_from_an_edge(lost: Lost) -> None:
    outcome = lost.restore()
    assert lost.documents() == lost.repository.files
    assert lost.manifests() == {ONE.id, TWO.id}
    assert outcome.complete == [TWO.id, ONE.id]  # what channels name comes first
    told = outcome.as_dict(lost.config.store)
    assert (told["chunks"], told["bytes"], told["failed"]) == (3, 3_000, {})
    assert told["channels"] == ["chat@stable"]
    assert told["state"] == "fresh"
    assert not told["made_admin_token"]
    json.dumps(told)


def test_documents_that_are_there_are_never_touched(lost: Lost) -> None:
    lost.restore(documents_only=True)
    assert lost.manifests() == set()
    before = lost.documents()
    with pytest.raises(ConfigError, match=r"never overwritten.*--repair-from"):
        lost.restore()
    assert lost.documents() == before
    (Path(lost.config.store) / "trust" / "documents.json").write_bytes(b"{torn")
    with pytest.raises(ConfigError, match=r"cannot be read.*move them away"):
        lost.restore()


def test_a_restore_that_was_cut_off_is_repeated(lost: Lost) -> None:
    asked = 0

    def cut(_step: str, _done: int, _total: int) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(lost.config, Wanted(edges=(lost.edge.url,)), cut)
    assert lost.documents() == {}
    outcome = lost.restore()
    assert outcome.repair is not None
    assert outcome.repair.chunks == 1  # two of three were there already
    assert lost.documents() == lost.repository.files


def test_one_that_is_away_and_one_that_lies_are_named(lost: Lost) -> None:
    with stub_tier({f"GET {TRUST_BUNDLE}": Canned(b"lie")}) as liar:
        outcome = lost.restore(AWAY, liar.url)
    assert outcome.source == lost.edge.url
    assert outcome.edges[lost.edge.url].startswith("timestamp ")
    assert "malformed" in outcome.edges[liar.url]
    assert "cannot connect" in outcome.edges[AWAY]
    assert lost.documents() == lost.repository.files


def test_without_any_edge_nothing_is_written(lost: Lost) -> None:
    lost.edge.answers.clear()
    with pytest.raises(
        SourceUnavailableError, match=r"no edge gave trust metadata.*connect.*has no"
    ):
        lost.restore(AWAY)
    lost.edge.answers[f"GET {TRUST_BUNDLE}"] = Canned(b"{}")
    with pytest.raises(TrustError, match="no edge has"):
        lost.restore()
    assert lost.documents() == {}


def test_keys_of_another_origin_are_told(lost: Lost, tmp_path: Path) -> None:
    other = replace(lost.config, store=str(tmp_path / "x"), keys_dir=tmp_path / "other")
    asyncio.run(initialize(other, "passphrase"))
    lost.config = replace(lost.config, keys_dir=other.keys_dir)
    with pytest.raises(TrustError, match="is it this origin's"):
        lost.restore()
    lost.config = replace(lost.config, keys_dir=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot read key file"):
        lost.restore()


def test_the_age_of_what_edges_have(lost: Lost) -> None:
    with pytest.raises(TrustExpiredError, match="--accept-expired"):
        lost.restore(days=9)
    assert lost.documents() == {}
    assert lost.restore(days=3).view.state == "expired_within_grace"


def test_what_was_taken_down_is_not_brought_back(lost: Lost) -> None:
    lost.edge.answers |= answers_of(lost.repository, f"revision:{ONE.id}")
    outcome = lost.restore()
    assert outcome.taken_down == {ONE.id: [lost.edge.url]}
    assert lost.manifests() == {TWO.id}


def test_a_list_of_takedowns_that_is_none_is_told(lost: Lost) -> None:
    lost.edge.answers[f"GET {TAKEDOWNS}"] = Canned(b"lie")
    outcome = lost.restore()
    assert "takedowns not known" in outcome.edges[lost.edge.url]
    assert len(outcome.complete) == 2


def test_what_no_edge_has_is_named_and_the_rest_is_there(lost: Lost) -> None:
    del lost.edge.answers[f"GET {manifest_path(ONE.id)}"]
    outcome = lost.restore()
    assert outcome.complete == [TWO.id]
    failed = outcome.as_dict("")["failed"]
    assert "does not have" in failed[ONE.id]
    assert "private" not in failed[ONE.id]
    assert lost.documents() == lost.repository.files


def test_a_private_model_without_a_token_is_told_as_such(lost: Lost) -> None:
    ours, now = make_revision({"m.gguf": [chunk_of(7)]}, model="ours"), time.time()
    signed = sign_revisions(
        lost.repository.trusted.bundle.roles["revisions"],
        load_key(lost.config.keys_dir / PUBLISHER_KEY),
        [("ours", ours.id, len(ours.data))],
        private=True,
        now=now,
    )
    after = lost.repository.accept_revisions(signed, now=now).repository
    lost.edge.answers |= answers_of(after)
    assert "it is private" in lost.restore().as_dict("")["failed"][ours.id]


def test_a_pull_token_goes_only_where_manifests_are_asked_for(lost: Lost) -> None:
    lost.restore(AWAY, pull_token="hwpull-secret")
    said = {received.path: "authorization" in received.headers for received in lost.edge.received}
    assert said[manifest_path(ONE.id)]
    assert not said[TRUST_BUNDLE]


def test_an_admin_token_is_made_where_there_is_none(lost: Lost) -> None:
    lost.config.admin_token_file.unlink()
    assert lost.restore(documents_only=True).made_token
    assert lost.config.admin_token_file.stat().st_mode & 0o777 == 0o600
