"""``/console``: the origin's page, and what it asks for; ``/assets``: static sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter, Schema
from infra.reference.openapi.parts import (
    EVENT,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    OBJECT,
    RANGE,
    SERVED,
    problem_shape,
)
from origin.console.access import TooManyTriesError
from origin.console.live import TooManyViewersError
from origin.console.pages import PageRoutes
from origin.console.playground import EDGE_HEADER, KEY_HEADER, TooManyChatsError
from origin.console.routes import API, OWN_HEADER, ConsoleRoutes, LoginRequest
from origin.console.state import Boot, LoginRow, LoginsEnded, Playground
from wire.catalog import CatalogMissingError, ModelUnknownError, RevisionUnknownError
from wire.errors import (
    ForbiddenError,
    HeadwaterError,
    NotFoundError,
    RequestInvalidError,
    SourceUnavailableError,
    TooLargeError,
    UnauthorizedError,
)
from wire.http_assets import AssetRoutes
from wire.http_range import RangeNotSatisfiableError
from wire.paths import ASSETS, CONSOLE

COOKIE_SCHEME: Mapping[str, Any] = {
    "type": "apiKey",
    "in": "cookie",
    "name": "headwater_console_ID",
    "description": "What `POST /console/api/login` sets; `ID` differs from one administrator's "
    "token to another. A POST under it needs the header `X-Headwater-Console: 1`.",
}
_LOGGED_IN: tuple[type[HeadwaterError], ...] = (UnauthorizedError,)
_SESSION: Mapping[str, Any] = {
    "type": "object",
    "required": ["logged_in"],
    "properties": {
        "logged_in": {"type": "boolean"},
        "expires": {"type": "number"},
        "problem": {"type": "string"},
    },
}
_ANY_FILE: Mapping[str, Schema] = {"*/*": {}}
_RELAYED = (400, 401, 403, 404, 408, 411, 413, 429, 500, 502, 503)
"""What an edge may answer to a prompt, in OpenAI's envelope."""
_PLAYGROUND = tuple(
    Parameter(name=name, where="header", about=about)
    for name, about in (
        (KEY_HEADER, "An API key of the edges; neither kept nor logged."),
        (EDGE_HEADER, "Which of the configured edges is asked."),
    )
)


_OWN = Parameter(
    name=OWN_HEADER,
    where="header",
    about="`1`: which no form and no other site can send. Needed without the token as bearer.",
)


def console_area() -> Area:
    """The console's page, and what it asks for."""
    worker = Parameter(name="worker", about="A worker's name.")
    name = Parameter(name="name", about="One of the page's files.")
    page = {200: Answer(about="The page.", content=_ANY_FILE), 304: NOT_MODIFIED}
    return Area(
        name="console",
        about="The page of `docs/console.md`. Its own calls need the login's cookie.",
        operations=(
            _open("GET", CONSOLE, PageRoutes.page, page),
            _open("GET", f"{CONSOLE}/", PageRoutes.page, page),
            _open("GET", f"{CONSOLE}/{{name}}", PageRoutes.file, page, (name,), (NotFoundError,)),
            _open(
                "GET",
                f"{API}/session",
                ConsoleRoutes.session,
                {200: Answer(content={JSON: _SESSION})},
            ),
            _login(),
            _inside(
                "POST", "/logout", ConsoleRoutes.logout, _SESSION, (_OWN,), errors=(ForbiddenError,)
            ),
            *_logins(),
            _live(),
            _inside(
                "GET",
                "/boots/{worker}",
                ConsoleRoutes.boot,
                tuple[Boot, ...],
                (worker,),
                (NotFoundError,),
            ),
            _inside(
                "GET",
                "/playground",
                ConsoleRoutes.playground,
                Playground,
                _PLAYGROUND[:1],
                (NotFoundError, RequestInvalidError),
            ),
            _chat(),
        ),
    )


def assets_area(behind: tuple[type[HeadwaterError], ...]) -> Area:
    """Static sites. ``behind`` as for the artifacts."""
    site = Parameter(name="site", about="`SITE`, `SITE@CHANNEL` or `SITE@REVISION`.")
    path = Parameter(name="path", about="A file's path; it may hold slashes.")
    answers = {
        200: Answer(about="The file.", content=_ANY_FILE),
        206: Answer(about="The range.", content=_ANY_FILE),
        304: NOT_MODIFIED,
        308: Answer(about="The folder's own address.", headers={"Location": "With a slash."}),
        404: Answer(about="The site's own 404, or problem details.", content=_ANY_FILE),
    }
    errors = (
        *(error for error in SERVED if error is not NotFoundError),
        UnauthorizedError,
        ForbiddenError,
        RangeNotSatisfiableError,
        CatalogMissingError,
        *behind,
    )
    return Area(
        name="assets",
        about="Static sites for browsers, where `assets.enabled` is set. Verified like all else.",
        operations=tuple(
            Operation(
                method="GET",
                path=where,
                handler=AssetRoutes.serve,
                parameters=(*parameters, IF_NONE_MATCH, RANGE),
                answers=answers,
                errors=errors,
                shape=problem_shape,
                security=("pullToken", "adminToken"),
                open_to_all=True,
                head=True,
            )
            for where, parameters in (
                (f"{ASSETS}/{{site}}", (site,)),
                (f"{ASSETS}/{{site}}/{{path}}", (site, path)),
            )
        ),
    )


def _open(
    method: str,
    path: str,
    handler: Callable[..., Any],
    answers: Mapping[int, Answer],
    parameters: tuple[Parameter, ...] = (),
    errors: tuple[type[HeadwaterError], ...] = (),
) -> Operation:
    return Operation(
        method=method,
        path=path,
        handler=handler,
        parameters=parameters,
        answers=answers,
        errors=errors,
        shape=problem_shape,
        head=True,
    )


def _login() -> Operation:
    return Operation(
        method="POST",
        path=f"{API}/login",
        handler=ConsoleRoutes.login,
        parameters=(_OWN,),
        body=LoginRequest,
        answers={200: Answer(content={JSON: _SESSION})},
        errors=(
            ForbiddenError,
            UnauthorizedError,
            RequestInvalidError,
            TooLargeError,
            TooManyTriesError,
        ),
        shape=problem_shape,
    )


def _logins() -> tuple[Operation, ...]:
    one = Parameter(name="id", about="A login's, as the list has it.")
    end = (ForbiddenError,)
    return (
        _inside("GET", "/logins", ConsoleRoutes.list_logins, tuple[LoginRow, ...]),
        _inside("DELETE", "/logins", ConsoleRoutes.end_others, LoginsEnded, (_OWN,), errors=end),
        _inside(
            "DELETE",
            "/logins/{id}",
            ConsoleRoutes.end_login,
            LoginsEnded,
            (one, _OWN),
            errors=(*end, NotFoundError),
        ),
    )


def _inside(
    method: str,
    path: str,
    handler: Callable[..., Any],
    answer: Schema,
    parameters: tuple[Parameter, ...] = (),
    errors: tuple[type[HeadwaterError], ...] = (),
) -> Operation:
    return Operation(
        method=method,
        path=f"{API}{path}",
        handler=handler,
        parameters=parameters,
        answers={200: Answer(content={JSON: answer})},
        errors=(*_LOGGED_IN, *errors),
        shape=problem_shape,
        security=("consoleCookie", "adminToken"),
        head=method == "GET",
    )


def _live() -> Operation:
    return Operation(
        method="GET",
        path=f"{API}/live",
        handler=ConsoleRoutes.stream,
        answers={200: Answer(about="A stream.", content={"text/event-stream": EVENT})},
        errors=(*_LOGGED_IN, TooManyViewersError),
        shape=problem_shape,
        security=("consoleCookie", "adminToken"),
    )


def _chat() -> Operation:
    relayed = {JSON: OBJECT, "text/event-stream": EVENT, "text/plain": {"type": "string"}}
    return Operation(
        method="POST",
        path=f"{API}/chat",
        handler=ConsoleRoutes.chat,
        summary="A prompt to one of the edges; its answer, whatever its status, as it comes.",
        parameters=(_OWN, *_PLAYGROUND),
        body=OBJECT,
        answers={200: Answer(about="The edge's answer.", content=relayed)},
        errors=(
            *_LOGGED_IN,
            ForbiddenError,
            NotFoundError,
            ModelUnknownError,
            RevisionUnknownError,
            RequestInvalidError,
            TooLargeError,
            TooManyChatsError,
            SourceUnavailableError,
        ),
        also=dict.fromkeys(_RELAYED, JSON),
        shape=problem_shape,
        security=("consoleCookie", "adminToken"),
    )
