"""Schemathesis against the tiers: every operation of their documents with made-up requests, good
and bad, each answer held to the document.

Checks that are left out, and why: ``positive_data_acceptance`` (a well-formed name that names
nothing is 404, a well-formed prompt without a worker 503), ``negative_data_rejection`` (fields that
are not known are dropped from prompts on purpose, and headers are text, whatever they hold),
``unsupported_method`` (methods without a route are 405 before any handler),
``missing_required_header`` and ``ignored_auth`` (they ask again without the credential; access has
tests of its own).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests import Session
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.reference.openapi.documents import draw
from infra.reference.openapi.model import Api, Operation

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = {"/artifacts/events", "/console/api/live"}
"""Streams that never end; they have tests of their own."""
HTTP_ITSELF = {400, 404, 405, 408, 411, 414, 415, 417, 431}
"""What any path may answer before it is looked at, as the documents say at their head."""
HONEST = {502, 503, 507}
"""Of 500 and more: what the document names, because something behind is away."""


@dataclass(slots=True)
class Fuzzed:
    """What came of it."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    operations: set[str] = field(default_factory=set)


def fuzz(api: Api, url: str, tokens: dict[str, str], *, examples: int, seed: int = 0) -> Fuzzed:
    """Ask every operation so many times.

    Args:
        tokens: by security scheme.
        seed: the same one asks the same things.
    """
    schema = schemathesis.openapi.from_dict(json.loads(draw(api)))
    known = {(one.method, one.path): one for one in api.operations()}
    found = Fuzzed()
    with Session() as session:
        for result in schema.get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]
            if operation.path in ENDLESS:
                continue
            declared = known.get((operation.method.upper(), operation.path))
            headers = _credential(declared or known["GET", operation.path], tokens)
            _each(operation, url, headers, session, found, examples, seed)
    return found


def _each(
    operation: Any,
    url: str,
    headers: dict[str, str],
    session: Session,
    found: Fuzzed,
    examples: int,
    seed: int,
) -> None:
    label = f"{operation.method.upper()} {operation.path}"
    found.operations.add(label)

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        answer = case.call(base_url=url, session=session, headers=headers, timeout=20)
        found.cases += 1
        found.statuses[answer.status_code] += 1
        problem = _judge(case, answer)
        if problem and len(found.problems) < 50:
            found.problems.append(f"{label} → {answer.status_code}: {problem}")

    ask()


def _judge(case: Any, answer: Any) -> str:
    """What does not fit the document; empty where all does."""
    if answer.status_code in HTTP_ITSELF and str(answer.status_code) not in _told(case):
        return ""
    checks = CHECKS if answer.status_code in HONEST else [not_a_server_error, *CHECKS]
    try:
        case.validate_response(answer, checks=checks)
    except (Failure, FailureGroup) as error:
        return " ".join(str(error).split())[:600]
    return ""


def _told(case: Any) -> set[str]:
    return set(case.operation.definition.raw["responses"])


def _credential(operation: Operation, tokens: dict[str, str]) -> dict[str, str]:
    for scheme in operation.security:
        if scheme in tokens:
            return {"Authorization": f"Bearer {tokens[scheme]}", "X-Headwater-Console": "1"}
    return {}
