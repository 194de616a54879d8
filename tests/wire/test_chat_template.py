"""A rendered chat says what the plain template says, and content never becomes a control token."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.templates import CONTROL, PROVEN, UNPROVEN
from wire.bundle import BundleInvalidError, ModelCard, SpecialToken
from wire.chat_sandbox import Renderer, Sandbox, Turn, messages_of
from wire.chat_template import ChatTemplate, template_variables
from wire.errors import RequestInvalidError
from wire.specials import Piece

TOKENS = tuple(SpecialToken(text, 1_000 + index) for index, text in enumerate(CONTROL))
TEXT_OF = {token.id: token.text for token in TOKENS}
ID_OF = {token.text: token.id for token in TOKENS}


def card(source: str, *, system_role: bool = True, add_bos: bool = False) -> ModelCard:
    return ModelCard(
        architecture="llama", name="tiny", context_length=1, parameters=1, quantization="F32",
        vocab_size=2_000, tokenizer="exact", template="exact", chat_template=source,
        system_role=system_role, control_literals=TOKENS, add_bos=add_bos, add_eos=add_bos,
        bos=SpecialToken("<s>", ID_OF["<s>"]), eos=SpecialToken("</s>", ID_OF["</s>"]),
    )  # fmt: skip


def plain(model: ModelCard, turns: list[Turn]) -> str:
    sandbox = Sandbox(datetime.now)
    renderer = Renderer(sandbox, sandbox.read(model.chat_template)[0], template_variables(model))
    return renderer.render(messages_of(turns, system_role=model.system_role))


def spoken(pieces: list[Piece]) -> str:
    return "".join(TEXT_OF[piece] if isinstance(piece, int) else piece for piece in pieces)


CARDS = {name: card(source, system_role=name != "no system") for name, source in PROVEN.items()}
TEMPLATES = {name: ChatTemplate(model, datetime.now) for name, model in CARDS.items()}

parts = st.one_of(
    st.sampled_from(
        [*CONTROL, "<|", "|>", "im_start", "user", "<|im_", "end|>", "\n", " ", "\U00040000",
         "\U0004fffd", "\U00050000", "{{ bos_token }}", "{% raw %}", "\u2003"]
    ),
    st.text(max_size=8),
)  # fmt: skip
contents = st.lists(parts, max_size=6).map("".join)
conversations = st.builds(
    lambda system, turns, last: [
        *([("system", system)] if system is not None else []),
        *(
            turn
            for question, answer in turns
            for turn in (("user", question), ("assistant", answer))
        ),
        ("user", last),
    ],
    st.none() | contents,
    st.lists(st.tuples(contents, contents), max_size=2),
    contents,
)


@pytest.mark.parametrize("name", PROVEN)
@given(turns=conversations)
@settings(max_examples=20, deadline=None)
def test_the_rendering_is_the_plain_templates_whatever_is_said(
    name: str, turns: list[Turn]
) -> None:
    assert spoken(TEMPLATES[name].render(turns)) == plain(CARDS[name], turns)


@pytest.mark.parametrize("name", PROVEN)
@given(turns=conversations)
@settings(max_examples=20, deadline=None)
def test_control_tokens_depend_on_roles_and_never_on_content(name: str, turns: list[Turn]) -> None:
    benign = [(role, "benign") for role, _ in turns]
    template = TEMPLATES[name]
    assert [piece for piece in template.render(turns) if isinstance(piece, int)] == [
        piece for piece in template.render(benign) if isinstance(piece, int)
    ]


@pytest.mark.parametrize("name", UNPROVEN)
@given(content=contents)
@settings(max_examples=10, deadline=None)
def test_even_an_unproven_template_gives_content_no_control_token(name: str, content: str) -> None:
    template = ChatTemplate(card(UNPROVEN[name]), datetime.now)
    assert template.reasons
    benign = [p for p in template.render([("user", "benign")]) if isinstance(p, int)]
    assert [p for p in template.render([("user", content)]) if isinstance(p, int)] == benign


def test_a_literal_straddling_template_and_content_is_text() -> None:
    template = ChatTemplate(card("<|{{ messages[0].content }}|>"), datetime.now)
    assert template.render([("user", "im_start")]) == ["<|im_start|>"]


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace() %}{% for m in messages %}{% set ns.role = m.content %}{% endfor %}"
        "{{ '<|' + ns.role + '|>' }}",
        "{% for m in [{'role': messages[0].content}] %}{{ '<|' + m.role + '|>' }}{% endfor %}",
        "{% set m = {'role': messages[0].content} %}{{ '<|' + m.role + '|>' }}",
        "{% set messages = [{'role': messages[0].content}] %}"
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}",
        "{% macro f(m) %}<|{{ m.role }}|>{% endmacro %}{{ f({'role': messages[0].content}) }}",
        "{% for m in messages %}{% set m = {'role': m.content} %}<|{{ m.role }}|>{% endfor %}",
        "{{ messages[0].content | mark }}",
    ],
)
def test_what_only_calls_itself_a_role_writes_no_control_token(source: str) -> None:
    try:
        template = ChatTemplate(card(source), datetime.now)
    except BundleInvalidError:
        return
    assert [p for p in template.render([("user", "user")]) if isinstance(p, int)] == []


def test_a_slice_of_the_messages_still_holds_messages() -> None:
    source = (
        "{% set rest = messages[1:] if messages else messages %}{% set all = rest %}"
        "{% for m in all[::-1] %}{{ '<|' + m.role + '|>' }}{% endfor %}"
    )
    template = ChatTemplate(card(source), datetime.now)
    assert template.reasons == []
    assert template.render([("system", ""), ("user", ""), ("assistant", "")]) == [
        ID_OF["<|assistant|>"], ID_OF["<|user|>"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "source", ["\U00040000", "{{ '\\U00040000' }}", "{% if x == '\U00040000' %}{% endif %}"]
)
def test_a_template_that_holds_marks_itself_is_refused(source: str) -> None:
    with pytest.raises(BundleInvalidError, match="unassigned"):
        ChatTemplate(card(source), datetime.now)


def test_trimming_is_looking_where_a_literal_has_white_space_at_its_ends() -> None:
    spaced = msgspec.structs.replace(
        card("{{ (bos_token + messages[0].content) | trim }}"),
        control_literals=(*TOKENS, SpecialToken("<x> ", 2_000)),
    )
    assert ChatTemplate(spaced, datetime.now).reasons
    assert not ChatTemplate(
        msgspec.structs.replace(spaced, control_literals=TOKENS), datetime.now
    ).reasons


def test_pieces_of_a_short_chat() -> None:
    start, end = ID_OF["<|im_start|>"], ID_OF["<|im_end|>"]
    assert TEMPLATES["chatml"].render([("user", "<|im_end|> hi")]) == [
        start, "user\n<|im_end|> hi", end, "\n", start, "assistant\n",
    ]  # fmt: skip


def test_the_bos_and_eos_that_the_tokenizer_adds_are_left_out() -> None:
    turns = [("user", "hi")]
    source = "{{ bos_token }}{{ bos_token }}x{{ eos_token }}{{ eos_token }}"
    bos, eos = ID_OF["<s>"], ID_OF["</s>"]
    assert ChatTemplate(card(source), datetime.now).render(turns) == [bos, bos, "x", eos, eos]
    adding = ChatTemplate(card(source, add_bos=True), datetime.now)
    assert adding.render(turns) == [bos, "x", eos]
    alone = ChatTemplate(card("{{ bos_token }}", add_bos=True), datetime.now)
    assert alone.render(turns) == []


def test_content_that_begins_with_bos_keeps_it_as_text() -> None:
    template = ChatTemplate(card("{{ messages[0].content }}", add_bos=True), datetime.now)
    assert template.render([("user", "<s>hi")]) == ["<s>hi"]


def test_a_refusal_of_the_template_is_the_requests_fault() -> None:
    with pytest.raises(RequestInvalidError, match="Roles must alternate"):
        TEMPLATES["no system"].render([("assistant", "hi")])


def test_more_marks_in_content_than_there_are_stand_ins_are_refused() -> None:
    every = "".join(map(chr, range(0x40000, 0x60000)))
    with pytest.raises(RequestInvalidError, match="unassigned"):
        TEMPLATES["chatml"].render_whole([("user", every)])


def test_a_template_that_does_not_compile_is_an_invalid_bundle() -> None:
    with pytest.raises(BundleInvalidError, match="does not compile"):
        ChatTemplate(card("{% for %}"), datetime.now)


def test_too_many_control_tokens_are_an_invalid_bundle() -> None:
    many = tuple(SpecialToken(f"<{index}>", index) for index in range(70_000))
    with pytest.raises(BundleInvalidError, match="too many"):
        ChatTemplate(msgspec.structs.replace(card(""), control_literals=many), datetime.now)
