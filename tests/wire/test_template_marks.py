"""What a template writes itself is told from content, or the template is not trusted with it."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.fakes.templates import CONTROL, PROVEN, UNPROVEN
from wire.bundle import SpecialToken
from wire.chat_sandbox import Sandbox
from wire.specials import Specials
from wire.template_marks import Rewriter

SPECIALS = Specials(SpecialToken(text, index) for index, text in enumerate(CONTROL))


def reasons(source: str, *variables: str) -> list[str]:
    rewriter = Rewriter(SPECIALS, str.swapcase, variables)
    rewriter.rewrite(Sandbox(datetime.now).parse(source))
    return rewriter.reasons


@pytest.mark.parametrize("name", PROVEN)
def test_a_template_that_only_writes_its_control_tokens_is_proven(name: str) -> None:
    assert reasons(PROVEN[name], "bos_token", "eos_token") == []


@pytest.mark.parametrize("name", UNPROVEN)
def test_a_template_that_looks_into_its_control_tokens_is_not(name: str) -> None:
    (first, *_) = reasons(UNPROVEN[name])
    assert first.startswith("the chat template ")
    assert "(line 1)" in first


@pytest.mark.parametrize(
    "source",
    [
        "{% if bos_token %}x{% endif %}", "{% if bos_token is defined %}x{% endif %}",
        "{% if not bos_token and messages %}x{% endif %}", "{{ bos_token | default('') }}",
        "{{ bos_token or '' }}", "{{ bos_token | trim }}",
        "{{ '</s>' if messages[0].content.endswith('</s>') else '' }}",
        "{% if '<|end|>' in messages[0].content %}x{% endif %}",
        "{% if messages[0].content != '<|end|>' %}x{% endif %}",
        "{% for m in messages if '<s>' not in m.content %}x{% endfor %}",
    ],
)  # fmt: skip
def test_asking_whether_a_token_is_there_is_no_looking_into_it(source: str) -> None:
    assert reasons(source, "bos_token") == []


@pytest.mark.parametrize(
    "source",
    [
        "{{ bos_token | length }}", "{{ bos_token[0] }}", "{{ bos_token.strip('<') }}",
        "{% if bos_token == 'x' %}y{% endif %}", "{% for c in bos_token %}{{ c }}{% endfor %}",
        "{{ messages[0].content | replace(bos_token, '') }}", "{{ [bos_token] }}",
    ],
)  # fmt: skip
def test_a_given_token_must_not_be_looked_into_either(source: str) -> None:
    assert reasons(source, "bos_token")
    assert reasons(source) == []


def test_a_name_is_followed_through_assignments_blocks_and_macros() -> None:
    chain = "{% set a = '<s>' %}{% set b = 'x' + a %}{% set c = b %}{{ c[0] }}"
    block = "{% set a %}<s>{% endset %}{{ a[0] }}"
    argument = "{% macro f(x, y='') %}{{ x[0] }}{% endmacro %}{{ f('<s>') }}"
    keyword = "{% macro f(x, y='') %}{{ y[0] }}{% endmacro %}{{ f('', y='<s>') }}"
    default = "{% macro f(x='<s>') %}{{ x[0] }}{% endmacro %}{{ f() }}"
    member = "{% set ns = namespace(a='') %}{% set ns.a = '<s>' %}{{ ns.a[0] }}"
    for source in (chain, block, argument, keyword, default, member):
        assert len(reasons(source)) == 1, source
        assert reasons(source.replace("<s>", "text")) == []
