from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.fakes import templates
from tests.fakes.facades import CARD
from tests.fakes.tiny_gguf import CHATML
from wire.bundle import ModelCard, SpecialToken
from wire.chat_sandbox import Turn
from wire.go_template import Render, go_template
from wire.images import ollama_template

IM = '{{ "<|im_start|>%s\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}'
CHATML_IN_GO = (
    '{{- range .Messages }}{{ if eq .Role "system" }}' + IM % "system"
    + '{{ else if eq .Role "user" }}' + IM % "user"
    + '{{ else if eq .Role "assistant" }}' + IM % "assistant"
    + '{{ end }}{{ end }}{{ "<|im_start|>assistant\\n" }}'
)  # fmt: skip


def card_with(template: str) -> ModelCard:
    literals = tuple(SpecialToken(text, n) for n, text in enumerate(templates.CONTROL))
    return msgspec.structs.replace(CARD, chat_template=template, control_literals=literals)


def wrapping(before: str, after: str, opening: str) -> Render:
    def render(turns: Sequence[Turn]) -> str:
        return "".join(f"{before}{role}:{said}{after}" for role, said in turns) + opening

    return render


def test_a_template_that_wraps_messages_is_understood() -> None:
    assert ollama_template(card_with(CHATML)) == CHATML_IN_GO
    thinking = ollama_template(card_with(templates.THINKING))
    assert thinking == CHATML_IN_GO.removesuffix('" }}') + '<think>\\n" }}'


@pytest.mark.parametrize("template", [templates.NO_SYSTEM, "{{ 1 }}"])
def test_what_is_not_understood_is_left_out(template: str) -> None:
    assert ollama_template(card_with(template)) is None


def test_a_template_that_the_edge_cannot_render_is_left_out() -> None:
    assert ollama_template(msgspec.structs.replace(card_with(CHATML), template="engine")) is None
    assert ollama_template(card_with("{% for")) is None


def test_braces_quotes_and_white_space_are_quoted_for_go() -> None:
    made = go_template(wrapping('{{ "', "\\\t", "\x00 now:\n"))
    assert made is not None
    assert '{{ "{{ \\"user:" }}{{ .Content }}{{ "\\\\\\t" }}' in made
    assert made.endswith('{{ "\\U00000000 now:\\n" }}')


def test_a_rendering_that_repeats_or_drops_content_is_not_understood() -> None:
    assert go_template(lambda turns: " ".join(said + said for _, said in turns)) is None
    assert go_template(lambda turns: turns[-1][1]) is None
    assert go_template(lambda turns: f"{len(turns)}" + "".join(said for _, said in turns)) is None
