"""The official ``openai`` client against the edge, as any application would use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from infra.demo_models import QUESTIONS
from infra.local_config import CLOUD_MODEL, LOCAL_MODEL
from tests.fakes.fleet import Fleet

KNOWN = json.loads(QUESTIONS.read_text(encoding="utf-8"))
FRANCE = "What is the capital of France?"


def asking(question: str = FRANCE, model: str = "auto", **fields: Any) -> dict[str, Any]:
    """The fields of a chat."""
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": 64, **fields}


def headers_of(client: OpenAI, **fields: Any) -> dict[str, str]:
    """The headers of a chat's answer."""
    answer = client.chat.completions.with_raw_response.create(**fields)
    return {name.lower(): value for name, value in answer.headers.items()}


def test_the_client_lists_the_models(fleet: Fleet) -> None:
    with fleet.openai() as client:
        names = {model.id for model in client.models.list()}
        assert {"auto", LOCAL_MODEL, CLOUD_MODEL} <= names
        assert client.models.retrieve(LOCAL_MODEL).id == LOCAL_MODEL


def test_a_chat_is_answered_with_its_usage(fleet: Fleet) -> None:
    with fleet.openai() as client:
        answer = client.chat.completions.create(**asking())
    assert "Paris" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 1


def test_a_streamed_chat_has_the_same_text_and_no_usage(fleet: Fleet) -> None:
    with fleet.openai() as client:
        whole = client.chat.completions.create(**asking())
        chunks = list(client.chat.completions.create(**asking(stream=True)))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streamed_chat_gives_its_usage_where_asked(fleet: Fleet) -> None:
    with fleet.openai() as client:
        whole = client.chat.completions.create(**asking())
        fields = asking(stream=True, stream_options={"include_usage": True})
        *chunks, last = client.chat.completions.create(**fields)
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks)


def test_a_completion_is_answered_and_streamed(fleet: Fleet) -> None:
    fields: Any = {"model": LOCAL_MODEL, "prompt": "Paris is", "max_tokens": 8, "temperature": 0}
    with fleet.openai() as client:
        whole = client.completions.create(**fields)
        chunks = list(client.completions.create(**fields, stream=True))
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 8


@pytest.mark.parametrize("question", [entry["question"] for entry in KNOWN["simple"]])
def test_auto_keeps_a_simple_question_local(fleet: Fleet, question: str) -> None:
    with fleet.openai() as client:
        headers = headers_of(client, **asking(question, max_tokens=1))
    assert headers["x-headwater-route"] == f"worker; model={LOCAL_MODEL}"


@pytest.mark.parametrize("question", [entry["question"] for entry in KNOWN["complex"]])
def test_auto_sends_a_complex_question_to_the_large_model(fleet: Fleet, question: str) -> None:
    with fleet.openai() as client:
        headers = headers_of(client, **asking(question, max_tokens=1))
    assert headers["x-headwater-route"] == f"cloud; model={CLOUD_MODEL}"


@pytest.mark.parametrize(("model", "target"), [(LOCAL_MODEL, "worker"), (CLOUD_MODEL, "cloud")])
def test_a_named_model_answers_whatever_the_question(fleet: Fleet, model: str, target: str) -> None:
    revision = fleet.revision(model)
    with fleet.openai() as client:
        for question in (FRANCE, KNOWN["complex"][0]["question"]):
            headers = headers_of(client, **asking(question, model, max_tokens=1))
            assert headers["x-headwater-route"] == f"{target}; model={model}"
            assert headers["x-model-digest"] == revision


def test_a_wrong_key_is_an_authentication_error(fleet: Fleet) -> None:
    with fleet.openai("hw-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**asking())
    assert caught.value.code == "invalid_api_key"
    assert "Server-Timing" in caught.value.response.headers


def test_a_used_up_limit_is_a_rate_limit_error_that_says_when(fleet: Fleet) -> None:
    made = fleet.create_key(limits={"requests_per_minute": 1})
    with fleet.openai(made["key"]) as client:
        client.chat.completions.create(**asking(max_tokens=1))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**asking(max_tokens=1))
    headers = caught.value.response.headers
    assert 1 <= int(headers["Retry-After"]) <= 60
    assert 0 < float(headers["retry-after-ms"]) <= 60_000
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "Server-Timing" in headers


def test_a_prompt_over_its_token_limit_is_refused_before_it_costs(fleet: Fleet) -> None:
    made = fleet.create_key(limits={"tokens_per_minute": 100})
    with fleet.openai(made["key"]) as client:
        client.chat.completions.create(**asking(max_tokens=60))
        client.chat.completions.create(**asking(max_tokens=1))  # most of the first came back
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(**asking(max_tokens=101))
    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f{}"}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"n": 1_000}, "n"),
    ],
)
def test_a_bad_field_is_a_bad_request_that_names_it(
    fleet: Fleet, fields: dict[str, Any], param: str
) -> None:
    with fleet.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**asking(), **fields})
    assert caught.value.param == param
    assert "Server-Timing" in caught.value.response.headers


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Paris"]}, "sure": {"type": "boolean"}},
    "required": ["city", "sure"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


def assert_fits_schema(text: str) -> None:
    found = json.loads(text)
    assert found.keys() == {"city", "sure"}
    assert found["city"] in {"Oslo", "Paris"}
    assert isinstance(found["sure"], bool)


@pytest.mark.parametrize("model", [LOCAL_MODEL, CLOUD_MODEL])
def test_an_answer_has_the_form_that_was_asked_for(fleet: Fleet, model: str) -> None:
    fields = asking(model=model, response_format=FORMAT, max_tokens=200)
    with fleet.openai() as client:
        whole = client.chat.completions.create(**fields)
        chunks = list(client.chat.completions.create(**fields, stream=True))
    assert_fits_schema(str(whole.choices[0].message.content))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert_fits_schema(text)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tools_are_refused_by_name_where_a_model_cannot_see_them(fleet: Fleet) -> None:
    """The demo model's template shows no tools; llama.cpp would drop them silently."""
    with fleet.openai() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**asking(model=LOCAL_MODEL, tools=TOOLS))
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")
        with pytest.raises(openai.BadRequestError, match="tools is not supported"):
            client.chat.completions.create(**asking(model=CLOUD_MODEL, tools=TOOLS))


@pytest.mark.parametrize("enum", [5_000, 100_000])
def test_a_schema_that_would_hang_the_engine_is_refused(fleet: Fleet, enum: int) -> None:
    values = [f"v{i}" for i in range(enum)]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": values}}}
    with fleet.openai() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(**asking(response_format=form))
        assert caught.value.status_code in {400, 413}
        client.chat.completions.create(**asking(max_tokens=1))


def test_several_choices_are_answered_and_streamed(fleet: Fleet) -> None:
    with fleet.openai() as client:
        whole = client.chat.completions.create(**asking(model=LOCAL_MODEL, n=2))
        chunks = list(client.chat.completions.create(**asking(model=LOCAL_MODEL, n=2, stream=True)))
        one = client.chat.completions.create(**asking(model=LOCAL_MODEL))
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert whole.usage is not None
    assert one.usage is not None
    assert whole.usage.prompt_tokens == one.usage.prompt_tokens
    assert whole.usage.completion_tokens == 2 * one.usage.completion_tokens
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {one.choices[0].message.content}


def test_a_seed_repeats_an_answer_and_a_stop_ends_it(fleet: Fleet) -> None:
    hot = {**asking(model=LOCAL_MODEL), "temperature": 2, "seed": 7, "max_tokens": 24}
    with fleet.openai() as client:
        first, again = (client.chat.completions.create(**hot) for _ in range(2))
        stopped = client.chat.completions.create(**asking(model=LOCAL_MODEL, stop=["Paris"]))
    assert first.choices[0].message.content == again.choices[0].message.content
    assert "Paris" not in str(stopped.choices[0].message.content)
    assert stopped.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("model", [LOCAL_MODEL, CLOUD_MODEL])
def test_log_probabilities_are_given(fleet: Fleet, model: str) -> None:
    fields = asking(model=model, logprobs=True, top_logprobs=2, max_tokens=4)
    with fleet.openai() as client:
        answer = client.chat.completions.create(**fields)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(entry.logprob <= 1e-3 for entry in logprobs.content)
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs.content)


def test_embeddings_are_refused_by_name_where_no_engine_gives_them(fleet: Fleet) -> None:
    made = fleet.create_key(scopes=["embeddings"])
    with fleet.openai(made["key"]) as client, pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=LOCAL_MODEL, input=["hello", "world"])
    assert caught.value.code == "unsupported_parameter"
    assert "embeddings" in caught.value.message


def test_a_prompt_beyond_the_context_is_a_bad_request(fleet: Fleet) -> None:
    with fleet.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asking("word " * 4_000, LOCAL_MODEL))
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_not_found(fleet: Fleet) -> None:
    with fleet.openai() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(**asking(model="no-such-model"))
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("no-such-model")


def test_a_model_outside_the_policy_is_refused(fleet: Fleet) -> None:
    made = fleet.create_key(policy={"models": [LOCAL_MODEL]})
    with fleet.openai(made["key"]) as client:
        client.chat.completions.create(**asking(model=LOCAL_MODEL, max_tokens=1))
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(**asking(model=CLOUD_MODEL))


def test_a_key_that_stays_local_never_reaches_the_cloud(fleet: Fleet) -> None:
    made = fleet.create_key(policy={"privacy": "local"})
    hard = KNOWN["complex"][0]["question"]
    with fleet.openai(made["key"]) as client:
        assert headers_of(client, **asking(hard))["x-headwater-route"].startswith("worker;")
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**asking(hard, CLOUD_MODEL))
    assert caught.value.code == "must_stay_local"


ANSWERS: dict[str, Callable[[OpenAI], Any]] = {
    "chat": lambda c: c.chat.completions.with_raw_response.create(**asking(max_tokens=1)),
    "stream": lambda c: c.chat.completions.with_raw_response.create(**asking(stream=True)),
    "completion": lambda c: c.completions.with_raw_response.create(
        model=LOCAL_MODEL, prompt="a", max_tokens=1
    ),
    "models": lambda c: c.models.with_raw_response.list(),
    "model": lambda c: c.models.with_raw_response.retrieve(LOCAL_MODEL),
}


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_good_answer_says_how_long_each_stage_took(
    fleet: Fleet, ask: Callable[[OpenAI], Any]
) -> None:
    with fleet.openai() as client:
        answer = ask(client)
        timing = answer.headers.get("Server-Timing", "")
        answer.parse()
    assert "auth;dur=" in timing


REFUSALS: dict[str, Callable[[OpenAI], Any]] = {
    "unknown model": lambda c: c.chat.completions.create(**asking(model="nothing")),
    "no such model to retrieve": lambda c: c.models.retrieve("nothing"),
    "bad field": lambda c: c.chat.completions.create(**asking(top_p=7)),
    "no such path": lambda c: c.images.generate(model="auto", prompt="x"),
    "not for this key": lambda c: c.embeddings.create(model="auto", input="x"),
}


@pytest.mark.parametrize("ask", REFUSALS.values(), ids=REFUSALS.keys())
def test_every_refusal_says_how_long_it_took(fleet: Fleet, ask: Callable[[OpenAI], Any]) -> None:
    with fleet.openai() as client, pytest.raises(openai.APIStatusError) as caught:
        ask(client)
    assert "Server-Timing" in caught.value.response.headers
