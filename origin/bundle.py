"""Makes the edge bundle of a revision from the GGUF's own metadata.

``exact`` is only said of what is known to give llama.cpp's ids; whatever is in doubt is left to the
engine, with the reason in the card. Where an engine is at hand, an oracle asks it.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import msgspec

from origin.chunker import plan
from origin.parity_corpus import ParityText, parity_texts
from origin.template_probe import TemplateReport, probe_template
from origin.tokenizer_file import tokenizer_json
from origin.vocabulary import SPACE, Vocabulary
from wire.bundle import CARD_PATH, TOKENIZER_PATH, ModelCard, encode_card
from wire.chat_sandbox import Turn
from wire.chunk import hash_chunk
from wire.encoder import Encoder
from wire.errors import GGUFInvalidError
from wire.gguf import GGUF
from wire.manifest import ChunkRef, FileEntry, FileRole

NO_TOKENIZER = b"{}"
"""``tokenizer.json`` where the engine must tokenize."""

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
"""``general.file_type`` by llama.cpp's names (``llama_ftype``)."""

_ENGINE_TEMPLATES = {
    "<|channel|>": "gpt-oss",
    "[SYSTEM_PROMPT]": "Mistral",
    ">>>all": "Functionary",
    "in JSONSchema format": "StepFun",
}
"""Marks of templates whose messages llama.cpp rewrites before it renders them."""


class ParityOracle(Protocol):
    """A running engine: the ids of a text in which special tokens count, without BOS and EOS."""

    def __call__(self, text: str) -> Sequence[int]: ...


class RenderOracle(Protocol):
    """A running engine: the prompt that it makes of a conversation, or None where it refuses."""

    def __call__(self, turns: Sequence[Turn]) -> str | None: ...


Probe = Callable[[ModelCard], TemplateReport]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files an edge reads of a revision."""

    card: ModelCard
    tokenizer: bytes

    def files(self) -> Iterator[tuple[FileEntry, bytes]]:
        """Each file's entry for the manifest, and its bytes."""
        yield file_entry(TOKENIZER_PATH, "tokenizer", self.tokenizer), self.tokenizer
        card = encode_card(self.card)
        yield file_entry(CARD_PATH, "model", card), card


def build_bundle(
    gguf: GGUF,
    *,
    oracle: ParityOracle | None = None,
    render: RenderOracle | None = None,
    probe: Probe = probe_template,
    parity_s: float = 60.0,
) -> Bundle:
    """The edge bundle of a GGUF file.

    Args:
        oracle: an engine with this file, where there is one; what it does not confirm is left to
            the engine.
        render: the same engine's rendering of conversations.
        probe: renders the chat template in safety.
        parity_s: how long the comparison with the oracle may take; a slower one confirms nothing.

    Raises:
        GGUFInvalidError: the metadata lacks what every model needs.
        TemplateRefusedError: the chat template must not be signed.
    """
    vocabulary = Vocabulary(gguf)
    card, report = _probed(_card(gguf, vocabulary), probe, render)
    prompts = [prompt for _, prompt in report.conversations] if report is not None else []
    about_tokenizer = list(vocabulary.doubts())
    tokenizer = NO_TOKENIZER
    if not about_tokenizer:
        tokenizer = tokenizer_json(vocabulary)
        encoder = Encoder(tokenizer, card)
        texts = list(parity_texts([token.text for token in card.control_literals], prompts))
        about_tokenizer = [
            *_misspelled(encoder, vocabulary, texts),
            *_unlike(encoder, oracle, texts, parity_s),
        ]
    about_template = [] if report is None else list(_about_template(card, report, render))
    doubts = (*about_tokenizer, *about_template)
    if report is not None:
        template = "engine" if doubts else "exact"
        card = msgspec.structs.replace(card, system_role=report.system_role, template=template)
    if about_tokenizer:
        card = msgspec.structs.replace(card, tokenizer="engine")
    return Bundle(
        msgspec.structs.replace(card, reasons=doubts),
        NO_TOKENIZER if about_tokenizer else tokenizer,
    )


def _probed(
    card: ModelCard, probe: Probe, render: RenderOracle | None
) -> tuple[ModelCard, TemplateReport | None]:
    """The report on the card's template, if it has one. Whether the model thinks unless told
    otherwise is the engine's choice, so the card follows the engine.
    """
    if not card.chat_template:
        return card, None
    report = probe(card)
    if report.asks_thinking and render is not None and not _alike(card, report, render):
        silent = msgspec.structs.replace(card, enable_thinking=False)
        other = probe(silent)
        if _alike(silent, other, render):
            return silent, other
    return card, report


def _card(gguf: GGUF, vocabulary: Vocabulary) -> ModelCard:
    """What the metadata says; that the tokenizer is exact is still to be shown."""
    architecture = gguf.text("general.architecture")
    context = gguf.integer(f"{architecture}.context_length")
    if not 0 < context < 2**31:
        raise GGUFInvalidError(f"{architecture}.context_length is {context} tokens")
    return ModelCard(
        architecture=architecture,
        name=gguf.text("general.name", architecture),
        context_length=context,
        parameters=gguf.parameters,
        quantization=quantization(gguf),
        vocab_size=len(vocabulary.tokens),
        tokenizer="exact",
        template="none",
        chat_template=gguf.text("tokenizer.chat_template", ""),
        bos=vocabulary.named("bos"),
        eos=vocabulary.named("eos"),
        eot=vocabulary.end_of_turn,
        add_bos=vocabulary.adds("bos"),
        add_eos=vocabulary.adds("eos"),
        control_literals=vocabulary.specials(vocabulary.special_ids - vocabulary.plain_ids),
        plain_literals=vocabulary.specials(vocabulary.plain_ids),
    )


def quantization(gguf: GGUF) -> str:
    """The file's type as it says, or else the tensor type that most of its bytes have."""
    named = _FILE_TYPES.get(gguf.integer("general.file_type", -1))
    if named is not None:
        return named
    sizes: Counter[str] = Counter()
    for tensor in gguf.tensors:
        sizes[tensor.type.name] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else "none"


def _misspelled(
    encoder: Encoder, vocabulary: Vocabulary, texts: Iterable[ParityText]
) -> Iterator[str]:
    """One doubt, where the ids of a text do not spell it."""
    spaces = SPACE if vocabulary.is_spm else " "
    spell = cache(vocabulary.spelled)
    for index, text in enumerate(texts):
        expected = b"".join(
            spell(run)
            if isinstance(run, int)
            else (" " * vocabulary.adds_space + run.replace(spaces, " ")).encode()
            for run in encoder.split(text.text)
        )
        spelled = b"".join(map(spell, encoder.encode_parsed(text.text)))
        if spelled != expected:
            yield f"the ids of parity text {index} ({text.name}) do not spell it"
            return


def _unlike(
    encoder: Encoder, oracle: ParityOracle | None, texts: Iterable[ParityText], parity_s: float
) -> Iterator[str]:
    """One doubt, where the engine gives other ids for one of the texts, or takes too long."""
    if oracle is None:
        return
    until = time.monotonic() + parity_s
    for index, text in enumerate(texts):
        if encoder.encode_parsed(text.text) != list(oracle(text.text)):
            yield f"the engine gives other ids for parity text {index} ({text.name})"
            return
        if time.monotonic() > until:
            yield f"the engine confirmed only {index + 1} parity texts in {parity_s} s"
            return


def _about_template(
    card: ModelCard, report: TemplateReport, render: RenderOracle | None
) -> Iterator[str]:
    """Why the edge should not render this template."""
    yield from report.doubts
    if "{" not in card.chat_template:
        yield "the chat template is the name of a template that llama.cpp has built in"
    for mark, family in _ENGINE_TEMPLATES.items():
        if mark in card.chat_template:
            yield f"llama.cpp rewrites messages for templates of the {family} kind"
    if render is not None and not _alike(card, report, render):
        yield "the engine renders a canned conversation otherwise"
    if render is None and report.asks_thinking:
        yield "whether the engine lets the model think is not known without an engine"


def _alike(card: ModelCard, report: TemplateReport, render: RenderOracle) -> bool:
    return all(
        render(turns) == _without_doubles(card, prompt) for turns, prompt in report.conversations
    )


def _without_doubles(card: ModelCard, prompt: str) -> str:
    """Without the BOS and EOS that the tokenizer adds anyway, as llama.cpp hands prompts on."""
    if card.add_bos and card.bos is not None:
        prompt = prompt.removeprefix(card.bos.text)
    if card.add_eos and card.eos is not None:
        prompt = prompt.removesuffix(card.eos.text)
    return prompt


def file_entry(path: str, role: FileRole, data: bytes) -> FileEntry:
    """The manifest's entry of a small file that was made here."""
    chunks = tuple(
        ChunkRef(hash_chunk(data[run.offset : run.end]), run.size) for run in plan(None, len(data))
    )
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(path=path, size=len(data), sha256=digest, role=role, chunks=chunks)
