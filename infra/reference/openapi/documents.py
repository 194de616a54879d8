"""The documents themselves: which areas each tier answers."""

from __future__ import annotations

import json

from edge_tier.cache.fill_config import NotStoredError
from infra.reference.openapi.artifacts import artifacts_area
from infra.reference.openapi.console import COOKIE_SCHEME, assets_area, console_area
from infra.reference.openapi.edge_admin import edge_admin_area, internal_area
from infra.reference.openapi.facades import facades_area
from infra.reference.openapi.model import Api
from infra.reference.openapi.operations import operations_area
from infra.reference.openapi.origin_admin import admin_area, rollouts_area
from infra.reference.openapi.parts import BEHIND, bearer
from infra.reference.openapi.prompts import prompts_area
from infra.reference.openapi.upkeep import fleet_area, upkeep_area
from origin.errors import StoreError

_ADMIN = bearer("The tier's admin token.")
_PULL = bearer("A pull token, which opens private models; also as the password of Basic.")
_ANY = (
    " HTTP itself may refuse any request before its path is looked at (400, 408, 411, 417, 431), "
    "a path that is not here (404), and a method that a path has not (405)."
)


def origin_api() -> Api:
    """What an origin answers."""
    behind = (StoreError,)
    return Api(
        title="Headwater origin",
        about="Publishes signed revisions and drives their roll." + _ANY,
        areas=(
            operations_area(),
            artifacts_area(behind, counts=True),
            facades_area(behind),
            assets_area(behind),
            admin_area(),
            rollouts_area(),
            upkeep_area(),
            fleet_area(),
            console_area(),
        ),
        schemes={
            "adminToken": _ADMIN,
            "consoleCookie": COOKIE_SCHEME,
            "edgeToken": bearer("The secret of the edges; opens their reports and nothing else."),
            "pullToken": _PULL,
        },
    )


def edge_api() -> Api:
    """What an edge answers that runs both planes."""
    behind = (*BEHIND, NotStoredError)
    return Api(
        title="Headwater edge",
        about="Carries artifacts down and prompts up." + _ANY,
        areas=(
            operations_area(),
            prompts_area(),
            artifacts_area(behind, counts=False),
            facades_area(behind),
            assets_area(behind),
            edge_admin_area(),
            internal_area(),
        ),
        schemes={
            "adminToken": _ADMIN,
            "apiKey": bearer("An API key (`headwater keys create`), or a JWT of the issuer."),
            "pullToken": _PULL,
            "workerToken": bearer("The secret that this edge shares with its workers."),
        },
    )


def draw(api: Api) -> str:
    """A document as text that changes only where the API does."""
    return json.dumps(api.document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def draw_origin() -> str:
    """The page ``openapi-origin.json``."""
    return draw(origin_api())


def draw_edge() -> str:
    """The page ``openapi-edge.json``."""
    return draw(edge_api())
