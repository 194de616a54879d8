"""Schemathesis finds no answer of 500 and none that the documents do not name: in short, here; for
minutes by ``make fuzz-api``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_tier.gateway.auth import KeyStore
from infra.reference.openapi.documents import edge_api, origin_api
from tests.fakes.api_fuzz import fuzz
from tests.fakes.api_tiers import TOKENS, Tiers, running_tiers

EXAMPLES = 3


@pytest.fixture
def tiers(tmp_path: Path) -> Iterator[Tiers]:
    with running_tiers(tmp_path) as made:
        yield made


def test_the_origin_answers_as_its_document_says(tiers: Tiers) -> None:
    found = fuzz(origin_api(), tiers.origin_url, TOKENS | {"pullToken": "admin"}, examples=EXAMPLES)
    assert found.problems == []
    assert found.statuses[200] > 10
    assert len(found.operations) > 50


def test_the_edge_answers_as_its_document_says(tiers: Tiers, tmp_path: Path) -> None:
    keys = KeyStore.open(tmp_path / "keys.json", tmp_path / "pepper")
    _, key = keys.create(tenant="fuzzed")
    tokens = TOKENS | {"pullToken": "admin", "apiKey": key}
    found = fuzz(edge_api(), tiers.edge_url, tokens, examples=EXAMPLES)
    assert found.problems == []
    assert found.statuses[200] > 10
    assert len(found.operations) > 50
