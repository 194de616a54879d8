"""The documents name every route of the running tiers, and none that is not there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from edge_tier.gateway.routes import _endpoint
from infra.reference.openapi.documents import draw, edge_api, origin_api
from infra.reference.openapi.model import Api
from tests.fakes.api_tiers import Tiers, api_tiers

WHERE = (
    "; its areas are the files of infra/reference/openapi (documents.py lists them); mend them, "
    "then `make docs`"
)
APIS = {"origin": origin_api(), "edge": edge_api()}


@pytest.fixture
async def tiers(tmp_path: Path) -> AsyncIterator[Tiers]:
    async with api_tiers(tmp_path) as made:
        yield made


def registered(app: web.Application) -> set[tuple[str, str]]:
    """Method and path of every route."""
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }


def documented(api: Api) -> set[tuple[str, str]]:
    """The same of the document."""
    found = {operation.key for operation in api.operations()}
    return found | {("HEAD", one.key[1]) for one in api.operations() if one.head}


@pytest.mark.parametrize("tier", sorted(APIS))
async def test_every_route_is_in_the_document_and_no_other(tiers: Tiers, tier: str) -> None:
    routes, told = registered(getattr(tiers, tier)), documented(APIS[tier])
    assert sorted(routes - told) == [], f"routes that openapi-{tier}.json does not name{WHERE}"
    assert sorted(told - routes) == [], f"openapi-{tier}.json names what is not there{WHERE}"


def test_the_edges_front_door_answers_what_the_document_says_of_v1() -> None:
    from edge_tier.gateway.heads import RequestHead

    for operation in edge_api().operations():
        if operation.path.startswith("/v1/"):
            path = operation.path.replace("{model}", "m")
            head = RequestHead(operation.method, path, {}, True, True, 0)
            assert _endpoint(head)[0], WHERE


@pytest.mark.parametrize("tier", sorted(APIS))
def test_the_document_is_valid_openapi(tier: str) -> None:
    document: Any = json.loads(draw(APIS[tier]))
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize("tier", sorted(APIS))
def test_operations_have_names_of_their_own_and_say_what_they_do(tier: str) -> None:
    document = APIS[tier].document()
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(len(one["summary"]) > 5 for one in operations)
    assert all(one["responses"] for one in operations)
