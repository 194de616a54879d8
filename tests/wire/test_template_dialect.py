"""What llama.cpp's jinja does otherwise is either made the same or named."""

from __future__ import annotations

from datetime import datetime

import pytest

from wire.chat_sandbox import Renderer, Sandbox


def render(source: str, content: str) -> str:
    sandbox = Sandbox(datetime.now)
    tree, _ = sandbox.read(source)
    return Renderer(sandbox, tree, {}).render([{"role": "user", "content": content}])


def differences(source: str) -> list[str]:
    return Sandbox(datetime.now).read(source)[1]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("content | trim", "\u2003x\x85"), ("content.strip()", "\u2003x\x85"),
        ("content.lstrip()", "\u2003x\x85 \n"), ("content.rstrip()", " \t\u2003x\x85"),
        ("content.strip('\\n ')", "\t\u2003x\x85"), ("content | trim('\\n ')", "\t\u2003x\x85"),
    ],
)  # fmt: skip
def test_only_ascii_white_space_is_trimmed(expression: str, expected: str) -> None:
    source = "{% set content = messages[0].content %}{{ " + expression + " }}"
    assert render(source, " \t\u2003x\x85 \n") == expected


@pytest.mark.parametrize(
    "expression",
    [
        "m.content | upper", "m.content.title()", "m.content.split()", "m.content | length",
        "m['content'][0]", "m.content[1:]", "m.content.find('x')", "content | wordcount",
    ],
)  # fmt: skip
def test_what_may_differ_is_named(expression: str) -> None:
    (difference,) = differences("\n{{ " + expression + " }}")
    assert "may differ in" in difference
    assert "line 2" in difference


@pytest.mark.parametrize(
    "expression",
    [
        "m.role | upper", "m['role'].title()", "role | capitalize", "m.content.split('x')[-1]",
        "messages | length", "messages[1:]", "messages[0]", "m.content | trim | default('')",
        "m.content.startswith('x')", "m.content.replace('a', 'b')", "loop.cycle('a', 'b')",
        "raise_exception('no')", "m['content'].rstrip('\\n')", "m.get('name')",
    ],
)  # fmt: skip
def test_what_is_the_same_is_not_named(expression: str) -> None:
    assert differences("{{ " + expression + " }}") == []
