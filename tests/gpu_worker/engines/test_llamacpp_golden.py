from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from gpu_worker.engine import EngineBrokenError, ProbeFailedError
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.engines.llamacpp_golden import golden_tokens, question, seen_tokens
from tests.fakes.scripted_gguf import EOS, SCRIPT, write_scripted_gguf
from wire.golden import GoldenPrompt, GoldenToken, SeenToken, build

StartLlama = Callable[..., Awaitable[LlamaCpp]]
ENTRY = {
    "id": 7,
    "token": " of",
    "bytes": [32, 111, 102],
    "logprob": -0.12345,
    "top_logprobs": [{"id": 7, "logprob": -0.12345}, {"id": 8, "logprob": -2.5}],
}


def answer(*entries: dict[str, object]) -> bytes:
    tokens = [entry["id"] for entry in entries]
    return msgspec.json.encode({"completion_probabilities": entries, "tokens": tokens})


def test_a_question_is_greedy_and_leaves_the_cache_alone() -> None:
    asked = msgspec.json.decode(question((1, 2), 5))
    assert (asked["prompt"], asked["n_predict"], asked["temperature"]) == ([1, 2], 5, 0.0)
    assert asked["cache_prompt"] is False


def test_tokens_are_read_for_a_comparison_and_for_a_publish() -> None:
    assert seen_tokens(answer(ENTRY)) == (SeenToken(7, -0.12345, {7: -0.12345, 8: -2.5}),)
    assert golden_tokens(answer(ENTRY), 3) == (GoldenToken(7, b" of", -0.123),)
    assert seen_tokens(b"{}") == ()


def test_an_answer_counts_up_to_the_first_part_of_a_character() -> None:
    entries = [ENTRY, ENTRY | {"id": 9}]
    body = {"completion_probabilities": entries, "tokens": [7, 8, 9]}
    assert [token.id for token in seen_tokens(msgspec.json.encode(body))] == [7]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        answer(ENTRY | {"logprob": None}),
        answer(ENTRY | {"bytes": [256]}),
        b'{"completion_probabilities":' + b"[" * 100_000,
    ],
)
def test_a_malformed_answer_is_the_engines_fault(bad: bytes) -> None:
    with pytest.raises(EngineBrokenError):
        golden_tokens(bad, 3)


async def test_the_real_engine_names_every_token_the_end_too(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    model = write_scripted_gguf(tmp_path / "ends.gguf", "plain", ends=True)
    seen = await (await start_llama(model)).continued(tuple(b"\0"), 64)
    assert [token.id for token in seen] == [*b"plain", EOS]
    assert all(token.likeliest[token.id] == token.logprob <= 0 for token in seen)


async def test_the_real_engine_gives_no_numbers_for_parts_of_characters(
    start_llama: StartLlama,
) -> None:
    seen = await (await start_llama()).continued(tuple(b"\0"), 64)
    assert bytes(token.id for token in seen) == SCRIPT.encode()[: SCRIPT.index("ö")]


async def test_the_probe_compares_with_what_was_published(start_llama: StartLlama) -> None:
    engine = await start_llama()
    prompt = GoldenPrompt(ids=tuple(b"\0"), text="\0")
    made = golden_tokens(await engine.ask_golden(prompt.ids, 4), 3)
    assert b"".join(token.text for token in made) == SCRIPT[:4].encode()
    right = build((prompt,), {"": (made,)}).of_variant("")
    probe = await engine.probe(right)
    assert probe.verdict is not None
    assert probe.verdict.tokens == 4
    assert probe.verdict.max_nats <= 0.001
    assert probe.first_token_s > 0
    other = build((prompt,), {"": ((GoldenToken(ord("x"), b"x", -0.1),),)}).of_variant("")
    with pytest.raises(ProbeFailedError, match=r"prompt 0, token 0: 104 instead of 120"):
        await engine.probe(other)
