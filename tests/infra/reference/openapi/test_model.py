"""infra.reference.openapi.model: how operations become a document."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
import pytest

from infra.reference.openapi.model import JSON, Answer, Api, Area, Operation, Parameter, sentence
from infra.reference.openapi.parts import problem_shape
from wire.errors import ConflictError, NotFoundError


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[a-z]+\Z")]
    marks: frozenset[str] = frozenset()


ASKED = Operation(
    method="GET",
    path="/things/{name}",
    summary="One thing.",
    parameters=(Parameter(name="name", about="Which."),),
    answers={200: Answer(content={JSON: Body}, headers={"ETag": "Of it."})},
    errors=(NotFoundError, ConflictError),
    shape=problem_shape,
    security=("token",),
    head=True,
)


def document(operation: Operation) -> dict[str, Any]:
    area = Area(name="things", about="Things.", operations=(operation,))
    return Api(title="T", about="T.", areas=(area,), schemes={"token": {}}).document()


def test_errors_become_answers_with_their_codes() -> None:
    responses = document(ASKED)["paths"]["/things/{name}"]["get"]["responses"]
    assert list(responses) == ["200", "404", "409"]
    schema = responses["409"]["content"]["application/problem+json"]["schema"]
    assert schema["properties"]["code"]["enum"] == ["conflict"]


def test_head_has_the_same_answers_without_bodies() -> None:
    methods = document(ASKED)["paths"]["/things/{name}"]
    assert methods["head"]["responses"].keys() == methods["get"]["responses"].keys()
    assert not any("content" in one for one in methods["head"]["responses"].values())
    assert methods["head"]["responses"]["200"]["headers"]["ETag"]["required"]


def test_types_are_told_as_they_are_decoded() -> None:
    body = document(ASKED)["components"]["schemas"]["Body"]
    assert body["properties"]["name"]["pattern"] == "^[a-z]+$"
    assert "uniqueItems" not in body["properties"]["marks"]  # a name sent twice is taken
    assert body["additionalProperties"] is False


def test_answers_of_others_stand_beside_ours() -> None:
    told = document(replace(ASKED, also={404: JSON, 429: JSON}))
    responses = told["paths"]["/things/{name}"]["get"]["responses"]
    assert responses["404"]["content"].keys() == {JSON, "application/problem+json"}
    assert responses["429"]["content"].keys() == {JSON}


@pytest.mark.parametrize(("open_to_all", "told"), [(False, 1), (True, 2)])
def test_a_credential_that_is_not_needed_is_told_so(open_to_all: bool, told: int) -> None:
    made = document(replace(ASKED, open_to_all=open_to_all))
    assert len(made["paths"]["/things/{name}"]["get"]["security"]) == told


def test_a_parameter_that_the_path_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        document(replace(ASKED, path="/things"))


def test_the_first_sentence_is_plain_text() -> None:
    assert sentence(NotFoundError) == (
        "The model, channel, revision, file or chunk is not known here."
    )
