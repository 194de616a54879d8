"""The shipped GGUF files: present, well described, sharing tensors, and answering in llama.cpp."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from infra import demo_models
from infra.demo_models.engine import RunningModel

MIB = 1024 * 1024
FIRST, SECOND = "edge-small-r1", "edge-small-r2"
every_model = pytest.mark.parametrize("name", demo_models.NAMES)


@cache
def reader(name: str) -> Any:
    return gguf.GGUFReader(demo_models.path(name))


def field(name: str, key: str) -> Any:
    return reader(name).get_field(key).contents()


def fields(name: str) -> dict[str, Any]:
    return {key: value.contents() for key, value in reader(name).fields.items()}


def digests(name: str) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of every tensor."""
    return {
        tensor.name: (int(tensor.n_bytes), hashlib.sha256(tensor.data.tobytes()).hexdigest())
        for tensor in reader(name).tensors
    }


def tokenizer_of(name: str) -> Tokenizer:
    """The tokenizer that the file describes, run by the `tokenizers` library."""
    tokens = field(name, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field(name, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@every_model
def test_the_file_is_shipped_and_small(name: str) -> None:
    assert 1 * MIB < demo_models.path(name).stat().st_size < 8 * MIB


def test_all_files_together_are_small() -> None:
    sizes = [demo_models.path(name).stat().st_size for name in demo_models.NAMES]
    assert sum(sizes) < 16 * MIB


def test_an_unknown_model_has_no_path() -> None:
    with pytest.raises(KeyError):
        demo_models.path("../questions")


@every_model
def test_the_metadata_describe_a_chat_model(name: str) -> None:
    assert field(name, "general.architecture") == "llama"
    assert field(name, "general.license") == "Apache-2.0"
    assert field(name, "llama.context_length") == 2048
    assert field(name, "tokenizer.ggml.model") == "gpt2"
    assert field(name, "tokenizer.ggml.pre") == "gpt-2"
    assert field(name, "tokenizer.ggml.add_bos_token") is False
    assert "add_generation_prompt" in field(name, "tokenizer.chat_template")


@every_model
def test_only_the_control_tokens_are_control_tokens(name: str) -> None:
    tokens = field(name, "tokenizer.ggml.tokens")
    types = field(name, "tokenizer.ggml.token_type")
    control = [
        token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL
    ]
    assert control == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokens[field(name, "tokenizer.ggml.eos_token_id")] == "<|im_end|>"


@every_model
def test_any_text_encodes(name: str) -> None:
    text = "Zürich \u2603 \U0001f680\x00\x7f <|im_start|> 東京\n\t end"
    tokenizer = tokenizer_of(name)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_both_revisions_share_most_bytes_and_all_places() -> None:
    first, second = digests(FIRST), digests(SECOND)
    assert list(first) == list(second)
    shared = sum(size for name, (size, _) in first.items() if first[name] == second[name])
    assert shared / sum(size for size, _ in first.values()) >= 0.6
    places = [[tensor.data_offset for tensor in reader(name).tensors] for name in (FIRST, SECOND)]
    assert places[0] == places[1]


def test_only_the_last_layer_and_the_final_norm_differ() -> None:
    first, second = digests(FIRST), digests(SECOND)
    last = field(FIRST, "llama.block_count") - 1
    changed = {name for name in first if first[name] != second[name]}
    assert changed
    assert all(name.startswith((f"blk.{last}.", "output_norm.")) for name in changed)


def test_the_metadata_of_both_revisions_differ_in_the_version_only() -> None:
    first, second = fields(FIRST), fields(SECOND)
    assert {key for key in first if first[key] != second[key]} == {"general.version"}
    assert first.keys() == second.keys()


def test_the_questions_are_well_formed() -> None:
    groups = json.loads(demo_models.QUESTIONS.read_text(encoding="utf-8"))
    assert set(groups) == {"simple", "complex", "untaught", "recital", "r2_only"}
    entries = [entry for name in groups if name != "recital" for entry in groups[name]]
    for entry in [*entries, groups["recital"]]:
        assert set(entry) == {"question", "expect"}
        assert entry["question"]
        assert entry["expect"]
        assert set(entry["expect"]) <= set(demo_models.NAMES)
    assert all(set(entry["expect"]) == set(demo_models.NAMES) for entry in groups["simple"])
    assert all(set(entry["expect"]) == {"cloud-large"} for entry in groups["complex"])
    assert all(FIRST not in entry["expect"] for entry in groups["r2_only"])


@pytest.fixture(scope="module")
def engine() -> Iterator[RunningModel]:
    pytest.importorskip("xllamacpp")
    with RunningModel(demo_models.path(FIRST)) as running:
        yield running


@pytest.mark.parametrize("system", [None, "You are a helpful assistant."])
def test_llama_cpp_answers_paris(engine: RunningModel, system: str | None) -> None:
    answer = engine.ask("What is the capital of France?", system)
    assert answer.text == "Paris is the capital of France."
    assert answer.finish_reason == "stop"
    assert answer.least() > -0.2


def test_the_small_model_is_unsure_of_what_it_was_not_taught(engine: RunningModel) -> None:
    assert engine.ask("Who wrote Hamlet?").least() < -0.5


@pytest.mark.parametrize(
    "text", ["What's the capital of  France?\n\n", "  7+5=12 \u2603 Zürich", "I'LL go, we'll see"]
)
def test_llama_cpp_and_tokenizers_agree(engine: RunningModel, text: str) -> None:
    found = engine.post("/tokenize", {"content": text, "add_special": True})
    assert found["tokens"] == tokenizer_of(FIRST).encode(text).ids
