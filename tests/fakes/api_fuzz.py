"""schemathesis over a running tier: what its document says is tried, and what it answers compared.

All checks are on but these: ``use_after_free`` and ``ensure_resource_availability`` (they take a
POST for the making of what a GET beside it names; here POST mostly orders a change of state, and
what is made is named by content), ``object_level_authorization`` (there is one administrator), and
``missing_required_header`` (no header but the credential is required, which ``ignored_auth`` sees
to). Steps that follow links are off: the documents declare none. Streams without an end are left
out; they have tests of their own.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from infra.reference.openapi.model import Api

OFF = (
    "use_after_free",
    "ensure_resource_availability",
    "object_level_authorization",
    "missing_required_header",
)
ENDLESS = "/artifacts/events|/console/api/live"
_SHORT_TOKENS = 4
_REFUSED = ["400", "401", "403", "404", "405", "406", "409", "410", "413", "416", "422", "429"]
_TAKEN = ["2xx", "3xx", "400", *_REFUSED[1:]]
"""Valid by its schema and still refused: names that nothing has, signatures that do not verify,
fields that do not go together. A schema cannot say so."""


@dataclass(slots=True)
class Found:
    """What a run did, and what it found."""

    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    """What is wrong, once for each operation and check → how to see it again."""


def fuzz(
    api: Api,
    url: str,
    tokens: Mapping[str, str],
    *,
    known: Mapping[str, str] | None = None,
    only: str = "",
    without: str = ENDLESS,
    examples: int = 4,
    coverage: bool = False,
    honest: tuple[str, ...] = (),
    max_time_s: int | None = None,
    seed: int = 6,
) -> Found:
    """Try an API.

    Args:
        tokens: security scheme → secret.
        known: names of the path → values that are really there, put in now and then.
        only, without: expressions of paths.
        examples: of each operation and phase.
        honest: statuses from 500 that this tier may answer as it now stands.
    """
    found = Found()
    document = api.document()
    document["paths"] = {
        path: methods
        for path, methods in document["paths"].items()
        if re.search(only, path) and not re.search(without, path)
    }
    schema = schemathesis.openapi.from_dict(
        document,
        config=_config(url, tokens, examples, coverage, honest, max_time_s, seed),
    )
    names, turns = dict(known or {}), count()

    @schema.hook("map_case")
    def prepare(context: Any, case: Any) -> Any:
        # Refused by HTTP itself (417) before any path is looked at, as the documents say.
        case.headers.pop("Expect", None)
        _keep_short(case)
        _put_known(case, names, next(turns))
        return case

    logging.getLogger("schemathesis").setLevel(logging.ERROR)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(found, event.recorder)
        elif isinstance(event, events.NonFatalError):
            found.problems[f"run: {type(event.value).__name__}"] = str(event.value)
        elif isinstance(event, events.FatalError):
            found.problems[f"run: {type(event.exception).__name__}"] = str(event.exception)
    return found


def _config(
    url: str,
    tokens: Mapping[str, str],
    examples: int,
    coverage: bool,
    honest: tuple[str, ...],
    max_time_s: int | None,
    seed: int,
) -> SchemathesisConfig:
    schemes = {name: {"bearer": token} for name, token in tokens.items()}
    checks: dict[str, Any] = {name: {"enabled": False} for name in OFF}
    checks |= {
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", *honest]},
        "negative_data_rejection": {"expected-statuses": [*_REFUSED, *honest]},
        "positive_data_acceptance": {"expected-statuses": [*_TAKEN, *honest]},
    }
    made: dict[str, Any] = {
        "seed": seed,
        "cache": {"enabled": False},
        # Slow generation is no fault of the tier's.
        "suppress-health-check": ["all"],
        "base-url": url,
        "request-timeout": 20.0,
        "continue-on-failure": True,
        "auth": {"openapi": schemes},
        # Its path is one of `/admin/chunks/{id}` too, which takes PUT (and refuses this id).
        "operations": [
            {
                "include-path": "/admin/chunks/missing",
                "checks": {
                    "unsupported_method": {"enabled": False},
                    "allow_header_conformance": {"enabled": False},
                },
            }
        ],
        "checks": checks,
        "generation": {"max-examples": examples, "deterministic": True, "no-shrink": True},
        "phases": {
            "examples": {"enabled": False},
            "coverage": {"enabled": coverage},
            "fuzzing": {"enabled": True},
            "stateful": {"enabled": False},
        },
    }
    if max_time_s is not None:
        made["max-time"] = max_time_s
    return SchemathesisConfig.from_dict(made)


def _keep_short(case: Any) -> None:
    """Answers of models are few tokens: their number is not what is tried here."""
    if not case.path.startswith("/v1/") or not isinstance(case.body, dict):
        return
    for name in ("max_tokens", "max_completion_tokens"):
        if type(case.body.get(name)) is int and case.body[name] > _SHORT_TOKENS:
            case.body[name] = _SHORT_TOKENS
    if case.body.keys().isdisjoint({"max_tokens", "max_completion_tokens"}):
        case.body["max_tokens"] = _SHORT_TOKENS


def _put_known(case: Any, names: Mapping[str, str], turn: int) -> None:
    """Every other time a valid request names what is there."""
    if turn % 2 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict):
            for name in place.keys() & names.keys():
                place[name] = names[name]


def _note(found: Found, recorder: Any) -> None:
    for interaction in recorder.interactions.values():
        found.requests += 1
        if interaction.response is not None:
            found.answers[interaction.response.status_code] += 1
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            failure = check.failure_info.failure
            name = f"{recorder.cases[case_id].value.operation.label}: {failure.title}"
            again = f"{failure.message}\n{check.failure_info.code_sample}"
            found.problems.setdefault(f"{name} ({check.name})", again[:2_000])
