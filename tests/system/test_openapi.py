"""What the documents say is what origin and edge answer: schemathesis, in short.

``make fuzz-api`` is the same for minutes. Everything is fixed: the same requests every time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.edge_admin import EdgeAdmin
from infra.local_config import LOCAL_MODEL
from infra.reference.openapi.documents import edge_api, origin_api
from tests.fakes.api_fuzz import Found, fuzz
from tests.fakes.api_tiers import TOKENS, Tiers, running_tiers
from tests.fakes.fleet import Fleet

UNLIMITED = {"requests_per_minute": 0, "tokens_per_minute": 0}


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiers]:
    """Nobody minds what becomes of them."""
    with running_tiers(tmp_path_factory.mktemp("api-tiers")) as made:
        yield made


def assert_as_documented(found: Found) -> None:
    told = "\n".join(f"{name}\n  {again}" for name, again in sorted(found.problems.items()))
    assert not found.problems, told
    assert not [status for status in found.answers if status == 500]


def test_an_origin_answers_as_its_document_says(tiers: Tiers) -> None:
    found = fuzz(origin_api(), tiers.origin_url, TOKENS, examples=2)
    assert_as_documented(found)
    assert {200, 400, 401, 404} <= found.answers.keys()


def test_an_edge_answers_as_its_document_says(tiers: Tiers) -> None:
    """Without a worker: prompts are refused for that, and say so."""
    with EdgeAdmin(tiers.edge_url, TOKENS["adminToken"]) as admin:
        key = admin.create_key({"tenant": "fuzz", "limits": UNLIMITED})["key"]
    tokens = {**TOKENS, "apiKey": key}
    found = fuzz(edge_api(), tiers.edge_url, tokens, examples=2, honest=("503",))
    assert_as_documented(found)
    assert {200, 400, 401, 404} <= found.answers.keys()


def test_prompts_are_answered_as_the_document_says(fleet: Fleet) -> None:
    """By a worker that runs: nothing but what is whole, or refused for what was asked."""
    key = fleet.create_key(limits=UNLIMITED, scopes=["chat", "embeddings"])["key"]
    known = {"model": LOCAL_MODEL}
    found = fuzz(
        edge_api(), fleet.urls.edge, {"apiKey": key}, known=known, only="^/v1/", examples=12
    )
    assert_as_documented(found)
    assert found.answers[200] > 5


def test_a_problem_is_found(tiers: Tiers) -> None:
    """The origin asked by the edge's document: what is not there is told."""
    found = fuzz(edge_api(), tiers.origin_url, TOKENS, only="^/admin/keys$", examples=1)
    assert found.problems
