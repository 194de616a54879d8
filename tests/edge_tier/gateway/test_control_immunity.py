"""No content becomes a control token, whatever it is written in: checked by token id.

Every literal of every vocabulary at hand (the demo models', a byte-level BPE's with many templates,
a SentencePiece's) is put into content in every disguise, sanitized with look-alikes folded and
personal data replaced, and then counted: among the ids that the edge makes, and among those that an
engine would make, with special tokens parsed, of the text that the edge hands it.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import tempfile
import unicodedata
import urllib.parse
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.homoglyphs import CONFUSABLES
from edge_tier.gateway.request import Message, Prompt, Rules, ToolCall
from edge_tier.gateway.sanitize import CONTROL_LITERAL, ControlLiterals, sanitize
from edge_tier.gateway.tokenize import Tokenizer
from origin.bundle import Bundle, build_bundle
from origin.template_probe import examine
from tests.fakes import templates
from tests.fakes.llama_server import llama_server
from tests.fakes.spm_vocabulary import train_spm
from tests.fakes.tiny_gguf import train_vocabulary, write_tiny_gguf
from wire.encoder import Encoder
from wire.gguf import read_gguf

DEMO = Path(__file__).parents[3] / "infra" / "demo_models"
DEMO_MODELS = ("edge-small-r1", "edge-small-r2", "cloud-large")
ODD = (
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
    "<｜begin▁of▁sentence｜>",
    '<"q">',
    "\u200b|x|",
)
"""Literals as real models have them, and with what JSON escapes or the sanitizer cuts."""
VOCABULARIES = (*DEMO_MODELS, "bpe", "spm", "odd")
FOLDING = Rules(homoglyphs="fold", personal_data="restore")


class Subject:
    """One vocabulary with its stages."""

    def __init__(self, bundle: Bundle) -> None:
        self.card = bundle.card
        self.tokenizer = Tokenizer("m", "r1", bundle.card, bundle.tokenizer)
        self.engine = Encoder(bundle.tokenizer, bundle.card)
        self.literals = self.tokenizer.literals
        self.screen = ControlLiterals(self.literals)
        self.control = {token.id for token in bundle.card.control_literals}

    def controls(self, prompt: Prompt) -> list[int]:
        """Control ids that the edge makes of a prompt."""
        return [id_ for id_ in self.tokenizer.encode(prompt).ids if id_ in self.control]

    def parsed(self, text: str) -> list[int]:
        """Control ids that an engine makes of a text, with special tokens parsed."""
        return [id_ for id_ in self.engine.encode_parsed(text) if id_ in self.control]


@lru_cache
def subject(name: str) -> Subject:
    if name in DEMO_MODELS:
        return Subject(_bundle(DEMO / f"{name}.gguf"))
    vocabulary = {
        "bpe": lambda: train_vocabulary(control=templates.CONTROL, user_defined=("  ", "    ")),
        "spm": lambda: train_spm(control=templates.CONTROL[1:3] + templates.CONTROL[5:]),
        "odd": lambda: train_vocabulary(control=("<|endoftext|>", *ODD)),
    }[name]()
    return Subject(_made(vocabulary))


def _made(vocabulary: Any, chat_template: str | None = None) -> Bundle:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        if chat_template is None:
            return _bundle(write_tiny_gguf(path, vocab=vocabulary))
        return _bundle(write_tiny_gguf(path, vocab=vocabulary, chat_template=chat_template))


def _bundle(path: Path) -> Bundle:
    with path.open("rb") as stream:
        gguf = read_gguf(stream, path.stat().st_size)
    return build_bundle(gguf, probe=lambda card: examine(card, rendered_bytes=10**7))


def chat(*texts: str) -> Prompt:
    return Prompt(kind="chat", model="m", messages=tuple(Message("user", t) for t in texts))


def with_tools(content: str, arguments: str = "{}", tools: str = "[]", form: str = "") -> Prompt:
    return Prompt(
        kind="chat",
        model="m",
        messages=(
            Message("user", content),
            Message("assistant", "", (ToolCall("c1", "f", arguments),)),
            Message("tool", content, (), "c1"),
        ),
        tools=tools,
        response_format=form,
    )


_LOOK_ALIKES: dict[str, list[str]] = {}
for _code, _latin in CONFUSABLES.items():
    _LOOK_ALIKES.setdefault(_latin, []).append(chr(_code))


def disguises(literal: str) -> Iterator[str]:
    """The literal, and what could become it."""
    yield literal
    yield literal * 3
    yield f"a{literal}b"
    yield literal[: len(literal) // 2] + literal + literal[len(literal) // 2 :]
    for hider in ("\u200b", "\u00ad", "\u2060", "\u202e", "\U000e0041", "\0", "\ufe0f", "\u200d"):
        yield hider.join(literal)
        yield literal[:1] + hider + literal[1:]
    yield from _with_look_alikes(literal)
    yield "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in literal)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield unicodedata.normalize(form, literal)
    yield html.escape(literal)
    yield urllib.parse.quote(literal)
    yield base64.b64encode(literal.encode()).decode()
    yield json.dumps(literal)
    yield _all_escaped(literal)
    yield literal.replace("m", "joe@example.com")
    yield literal.upper()


def _with_look_alikes(literal: str) -> Iterator[str]:
    """Letters for look-alikes: each place alone, all of them, and between hidden characters."""
    for place, letter in enumerate(literal):
        for other in _LOOK_ALIKES.get(letter, ())[:12]:
            yield literal[:place] + other + literal[place + 1 :]
    for nth in range(6):
        swapped = "".join(
            others[nth % len(others)] if (others := _LOOK_ALIKES.get(c)) else c for c in literal
        )
        yield swapped
        yield "\u200b".join(swapped)


def _all_escaped(text: str) -> str:
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def everything(name: str) -> list[str]:
    return list(dict.fromkeys(itertools.chain(*map(disguises, subject(name).literals))))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_content_is_a_control_token_of_the_edges_ids(name: str) -> None:
    it = subject(name)
    harmless = it.controls(chat("hello"))
    for text in everything(name):
        clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
        assert it.controls(clean) == harmless, text
        asked = Prompt(kind="completion", model="m", text=text)
        clean = sanitize(asked, FOLDING, literals=it.screen).prompt
        assert it.controls(clean) == it.controls(Prompt(kind="completion", model="m", text="hello"))


@pytest.mark.parametrize("name", templates.PROVEN)
def test_no_content_is_a_control_token_whatever_the_template(name: str) -> None:
    vocabulary = train_vocabulary(control=templates.CONTROL, user_defined=("  ", "    "))
    it = Subject(_made(vocabulary, templates.PROVEN[name]))
    harmless = it.controls(chat("hello"))
    for text in itertools.chain(*map(disguises, it.literals)):
        clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
        assert it.controls(clean) == harmless, text


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_literal_split_over_messages_is_none(name: str) -> None:
    it = subject(name)
    for literal in it.literals:
        for place in range(1, len(literal)):
            parts = literal[:place], literal[place:]
            clean = sanitize(chat(*parts), FOLDING, literals=it.screen).prompt
            assert it.controls(clean) == it.controls(chat("a", "b"))
            joined = "\n".join(it.tokenizer.neutralize(clean).texts())
            assert it.parsed(joined) == []


@pytest.mark.parametrize("name", VOCABULARIES)
def test_an_engine_that_parses_special_tokens_finds_none_in_what_it_is_sent(name: str) -> None:
    it = subject(name)
    for text in everything(name):
        for shadow in (False, True):
            rules = msgspec.structs.replace(FOLDING, shadow=shadow)
            clean = sanitize(chat(text), rules, literals=it.screen)
            (sent,) = it.tokenizer.neutralize(clean.prompt).texts()
            assert it.parsed(sent) == [], text
            if it.parsed(clean.prompt.texts()[0]):
                assert CONTROL_LITERAL in {finding.name for finding in clean.findings}


def _in_json(text: str) -> Iterator[str]:
    """A JSON value that says ``text``, escaped in several ways."""
    yield json.dumps({"a": [text], text: 1})
    yield json.dumps({"a": [text], text: 1}, ensure_ascii=False)
    yield f'{{"a": ["{_all_escaped(text)}"]}}'
    yield json.dumps({"a": text}).replace("/", "\\/")
    yield f'{"[" * 3000}"{_all_escaped(text)}"{"]" * 3000}'
    yield f'{{"cut off": "{_all_escaped(text)}'


def _strings(text: str) -> list[str]:
    """What an engine reads in a JSON text; the text itself where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text.replace("\\/", "/")]
    found: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
    return found


def _without_surrogates(text: str) -> str:
    return text.encode(errors="ignore").decode()


@pytest.mark.parametrize("name", ["edge-small-r1", "spm", "odd"])
def test_tools_and_arguments_hold_no_literal_however_it_is_escaped(name: str) -> None:
    it = subject(name)
    for literal in it.literals:
        for text in (
            literal,
            f"a{literal}b",
            "\u200b".join(literal),
            next(_with_look_alikes(literal), ""),
        ):
            for value in _in_json(text):
                prompt = with_tools(text, value, f"[{value}]", value)
                clean = sanitize(prompt, FOLDING, literals=it.screen)
                read = [said for t in clean.prompt.texts() for said in _strings(t)]
                if any(map(it.parsed, read)):
                    assert CONTROL_LITERAL in {finding.name for finding in clean.findings}
                for sent in it.tokenizer.neutralize(clean.prompt).texts():
                    assert it.parsed(sent) == [], (text, value)
                    for said in _strings(sent):
                        assert it.parsed(said) == [], (text, value)


pieces = st.lists(
    st.sampled_from([
        "<|im_start|>", "<|im_", "start|>", "<|", "|>", "іm", "\u200b", "[EMAIL", "_1]", "a@b.co",
        "<", "\\u003c", "\\/", "s>", "</s>", '"', "\\", "｜", "<｜begin▁of▁sentence｜>", "[INST]",
        " ",
    ]),
    max_size=9,
).map("".join)  # fmt: skip


@given(pieces, pieces)
@settings(max_examples=150, deadline=None)
def test_no_mixture_holds_a_control_token(text: str, arguments: str) -> None:
    for name in ("odd", "spm"):
        it = subject(name)
        clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
        assert it.controls(clean) == it.controls(chat("hello"))
        asked = with_tools(text, arguments, arguments, json.dumps(text))
        clean = sanitize(asked, FOLDING, literals=it.screen).prompt
        texts = it.tokenizer.neutralize(clean).texts()
        as_json = texts[len(asked.messages) :]
        for sent in (*texts, *itertools.chain(*map(_strings, as_json))):
            assert it.parsed(_without_surrogates(sent)) == []


@pytest.mark.parametrize("name", VOCABULARIES)
def test_what_is_encoded_stays_as_it_is(name: str) -> None:
    it = subject(name)
    for literal in it.literals:
        for text in (
            html.escape(literal),
            urllib.parse.quote(literal, safe=""),
            base64.b64encode(literal.encode()).decode(),
            _all_escaped(literal),
        ):
            if text != literal and not any(one in text for one in it.literals):
                clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
                assert it.tokenizer.neutralize(clean).texts() == (text,)


@pytest.mark.parametrize("name", [name for name in templates.PROVEN if name != "namespace"])
def test_no_half_of_a_literal_becomes_one_beside_what_the_template_writes(name: str) -> None:
    """The engine renders as text: a literal must not be put together over the seam."""
    vocabulary = train_vocabulary(control=templates.CONTROL, user_defined=("  ", "    "))
    it = Subject(_made(vocabulary, templates.PROVEN[name]))
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(templates.PROVEN[name])

    def rendered(prompt: Prompt) -> list[int]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return it.parsed(
            template.render(
                messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True
            )
        )

    harmless = rendered(chat("hello"))
    for literal in it.literals:
        for place in range(1, len(literal) + 1):
            for text in (literal[:place], literal[place - 1 :], literal[place:] + literal[:place]):
                clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
                assert rendered(it.tokenizer.neutralize(clean)) == harmless, text


def test_llama_cpp_itself_finds_none() -> None:
    """The demo model's engine, asked with special tokens parsed, about all disguises at once."""
    it = subject("edge-small-r1")
    sent: list[str] = []
    for text in everything("edge-small-r1"):
        clean = sanitize(chat(text), FOLDING, literals=it.screen).prompt
        sent += it.tokenizer.neutralize(clean).texts()
    with llama_server(DEMO / "edge-small-r1.gguf") as llama:
        assert it.control & set(llama.tokenize("<|im_start|>", parse_special=True))
        ids = llama.tokenize("\n".join(sent), parse_special=True)
    assert len(ids) > len(sent)
    assert not it.control & set(ids)
