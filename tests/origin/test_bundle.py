"""The edge bundle says "exact" only where it is, and keeps what an edge needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from origin.bundle import NO_TOKENIZER, Bundle, build_bundle, quantization
from origin.template_probe import TemplateRefusedError, TemplateReport, examine
from tests.fakes import templates
from tests.fakes.llama_server import LlamaServer, llama_server
from tests.fakes.spm_vocabulary import train_spm
from tests.fakes.tiny_gguf import CHATML, train_vocabulary, write_tiny_gguf
from wire.bundle import ModelCard, SpecialToken, decode_card
from wire.chat_sandbox import Turn
from wire.encoder import Encoder
from wire.errors import GGUFInvalidError
from wire.gguf import GGUF, read_gguf
from wire.gguf_types import TENSOR_TYPES, Tensor
from wire.manifest import build

VOCABULARY = train_vocabulary()
ALL_KINDS = train_vocabulary(control=templates.CONTROL)


def read(path: Path) -> GGUF:
    with path.open("rb") as stream:
        return read_gguf(stream, path.stat().st_size)


class Engine:
    """A running llama.cpp as the publisher's oracle."""

    def __init__(self, llama: LlamaServer) -> None:
        self._llama = llama

    def tokenize(self, text: str) -> list[int]:
        return self._llama.tokenize(text)

    def render(self, turns: Sequence[Turn]) -> str:
        return self._llama.render([{"role": role, "content": text} for role, text in turns])


def examined(card: ModelCard) -> TemplateReport:
    """What the probe's child finds out, without the child: these templates are harmless."""
    return examine(card, rendered_bytes=10**7)


def confirmed(path: Path) -> Bundle:
    """The bundle as a real engine confirms it."""
    with llama_server(path) as llama:
        engine = Engine(llama)
        return build_bundle(
            read(path), oracle=engine.tokenize, render=engine.render, probe=examined
        )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> GGUF:
    return read(write_tiny_gguf(tmp_path_factory.mktemp("bundle") / "tiny.gguf"))


def test_the_card_says_what_an_edge_needs(tiny: GGUF) -> None:
    card = build_bundle(tiny, probe=examined).card
    end = SpecialToken("<|im_end|>", VOCABULARY.id("<|im_end|>"))
    assert (card.architecture, card.name, card.context_length) == ("llama", "tiny", 2_048)
    assert (card.tokenizer, card.template, card.reasons) == ("exact", "exact", ())
    assert (card.chat_template, card.system_role) == (CHATML, True)
    assert (card.vocab_size, card.quantization) == (len(VOCABULARY.tokens), "F32")
    assert card.parameters == sum(t.size // 4 for t in tiny.tensors)
    assert (card.eos, card.eot) == (end, end)
    assert card.bos == SpecialToken("<|endoftext|>", VOCABULARY.id("<|endoftext|>"))
    assert (card.add_bos, card.add_eos) == (False, False)
    assert [token.text for token in card.control_literals] == [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip


def test_the_files_belong_into_a_manifest(tiny: GGUF) -> None:
    bundle = build_bundle(tiny)
    entries = {entry.role: (entry, data) for entry, data in bundle.files()}
    assert set(entries) == {"tokenizer", "model"}
    manifest = build("tiny", tuple(entry for entry, _ in entries.values()), {})
    assert {entry.path for entry in manifest.files} == {"tokenizer.json", "model.json"}
    assert decode_card(entries["model"][1]) == bundle.card
    assert Encoder(entries["tokenizer"][1], bundle.card).encode_parsed("hi")


def test_the_same_file_gives_the_same_bytes(tiny: GGUF) -> None:
    assert list(build_bundle(tiny, probe=examined).files()) == list(
        build_bundle(tiny, probe=examined).files()
    )


@pytest.mark.parametrize("name", templates.PROVEN)
def test_llama_cpp_confirms_tokenizer_and_template(name: str, tmp_path: Path) -> None:
    path = write_tiny_gguf(
        tmp_path / "tiny.gguf",
        pre="llama-bpe",
        vocab=ALL_KINDS,
        chat_template=templates.PROVEN[name],
    )
    card = confirmed(path).card
    assert (card.tokenizer, card.template, card.reasons) == ("exact", "exact", ())


def test_the_card_follows_the_engine_in_whether_to_think(tmp_path: Path) -> None:
    asking = CHATML + "{% if enable_thinking is false %}<think></think>{% endif %}"
    path = write_tiny_gguf(tmp_path / "tiny.gguf", chat_template=asking)
    alone = build_bundle(read(path), probe=examined).card
    assert alone.template == "engine"
    assert "think" in alone.reasons[0]
    card = confirmed(path).card
    with llama_server(path) as llama:
        prompt = Engine(llama).render([("user", "hi")])
    assert card.template == "exact"
    assert card.enable_thinking != prompt.endswith("<think></think>")


def test_what_the_engine_tokenizes_otherwise_is_left_to_it(tiny: GGUF) -> None:
    bundle = build_bundle(tiny, oracle=lambda text: [0, *text.encode()], probe=examined)
    assert (bundle.card.tokenizer, bundle.card.template) == ("engine", "engine")
    assert bundle.tokenizer == NO_TOKENIZER
    assert bundle.card.reasons == ("the engine gives other ids for parity text 0 (contractions)",)


def test_an_engine_that_differs_in_one_text_is_told_which(tiny: GGUF) -> None:
    encoder = Encoder(build_bundle(tiny, probe=examined).tokenizer, build_bundle(tiny).card)

    def differs_in_emoji(text: str) -> list[int]:
        return [*encoder.encode_parsed(text), *([0] if "👩🏿" in text else [])]

    (reason,) = build_bundle(tiny, oracle=differs_in_emoji, probe=examined).card.reasons
    assert reason.startswith("the engine gives other ids for parity text ")
    assert reason.endswith("(emoji)")


def test_an_engine_that_takes_too_long_confirms_nothing(tiny: GGUF) -> None:
    encoder = Encoder(build_bundle(tiny, probe=examined).tokenizer, build_bundle(tiny).card)
    card = build_bundle(tiny, oracle=encoder.encode_parsed, probe=examined, parity_s=0.0).card
    assert card.tokenizer == "engine"
    assert card.reasons == ("the engine confirmed only 1 parity texts in 0.0 s",)


def test_ids_that_do_not_spell_their_text_are_noticed_without_an_engine(
    tiny: GGUF, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "encode_parsed", lambda encoder, text: encoder.encode([text])[1:])
    card = build_bundle(tiny, probe=examined).card
    assert card.tokenizer == "engine"
    assert card.reasons == ("the ids of parity text 0 (contractions) do not spell it",)


def test_a_sentencepiece_model_is_exact(tmp_path: Path) -> None:
    vocabulary = train_spm(control=("<|im_start|>", "<|im_end|>"))
    path = write_tiny_gguf(tmp_path / "spm.gguf", vocab=vocabulary)
    card = confirmed(path).card
    assert (card.tokenizer, card.template, card.reasons) == ("exact", "exact", ())
    assert (card.bos, card.add_bos) == (SpecialToken("<s>", 1), True)


def test_what_the_engine_renders_otherwise_is_left_to_it(tiny: GGUF) -> None:
    card = build_bundle(tiny, render=lambda turns: "other", probe=examined).card
    assert (card.tokenizer, card.template) == ("exact", "engine")
    assert "renders a canned conversation otherwise" in card.reasons[0]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"tokenizer.ggml.pre": "glm4"}, "pre-tokenizer 'glm4'"),
        ({"tokenizer.ggml.model": "t5"}, "model 't5'"),
        ({"tokenizer.ggml.model": "llama"}, "lacks single bytes"),
        ({"general.name": "phi3"}, "swallow white space"),
    ],
)
def test_a_tokenizer_in_doubt_is_left_to_the_engine(
    tiny: GGUF, keys: dict[str, str], reason: str
) -> None:
    bundle = build_bundle(replace(tiny, metadata={**tiny.metadata, **keys}), probe=examined)
    assert (bundle.card.tokenizer, bundle.card.template) == ("engine", "engine")
    assert bundle.tokenizer == NO_TOKENIZER
    assert reason in bundle.card.reasons[0]
    assert bundle.card.control_literals


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("chatml", "built in"),
        ("{{ messages[0].content }}<|channel|>", "gpt-oss"),
        ("{{ messages[0].content | upper }}", "filter 'upper'"),
        (templates.UNPROVEN["looked up"].replace("user|", "im_end|"), "computes with a control"),
    ],
)
def test_a_template_in_doubt_is_left_to_the_engine(tiny: GGUF, template: str, reason: str) -> None:
    metadata = {**tiny.metadata, "tokenizer.chat_template": template}
    card = build_bundle(replace(tiny, metadata=metadata), probe=examined).card
    assert (card.tokenizer, card.template) == ("exact", "engine")
    assert reason in card.reasons[0]


def test_a_model_without_a_template_completes_but_does_not_chat(tiny: GGUF) -> None:
    metadata = {k: v for k, v in tiny.metadata.items() if k != "tokenizer.chat_template"}
    card = build_bundle(replace(tiny, metadata=metadata)).card
    assert (card.tokenizer, card.template, card.chat_template) == ("exact", "none", "")


def test_a_hostile_template_refuses_the_publish(tiny: GGUF) -> None:
    metadata = {**tiny.metadata, "tokenizer.chat_template": "{{ ''.__class__ }}"}
    with pytest.raises(TemplateRefusedError, match="out of reach"):
        build_bundle(replace(tiny, metadata=metadata))


@pytest.mark.parametrize(
    "keys",
    [
        {"llama.context_length": 0}, {"llama.context_length": "long"},
        {"general.architecture": "other"}, {"general.architecture": 3},
        {"tokenizer.ggml.tokens": ("a", "a")},
    ],
)  # fmt: skip
def test_metadata_that_no_model_has_is_refused(
    tiny: GGUF, keys: dict[str, int | str | tuple[str, ...]]
) -> None:
    with pytest.raises(GGUFInvalidError):
        build_bundle(replace(tiny, metadata={**tiny.metadata, **keys}))


def test_the_quantization_is_the_files_or_that_of_most_bytes(tiny: GGUF) -> None:
    q5_k_m, unknown = 17, 999
    named = replace(tiny, metadata={"general.file_type": q5_k_m})
    assert quantization(named) == "Q5_K_M"
    tensors = (
        Tensor("a", (256,), TENSOR_TYPES[13], 0, 176), Tensor("b", (8,), TENSOR_TYPES[0], 192, 32),
    )  # fmt: skip
    counted = replace(tiny, metadata={"general.file_type": unknown}, tensors=tensors)
    assert quantization(counted) == "Q5_K"
    assert quantization(replace(counted, tensors=())) == "none"


def test_the_tokenizer_file_is_small_and_plain(tiny: GGUF) -> None:
    document = json.loads(build_bundle(tiny, probe=examined).tokenizer)
    assert document["added_tokens"] == []
    assert not set(document["model"]["vocab"]) & {"<|im_start|>", "<|im_end|>"}
