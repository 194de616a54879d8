"""A template that only copies contents is known as such; one that looks at them is not."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.bundle import build_bundle
from tests.fakes import templates
from tests.fakes.tiny_gguf import train_vocabulary, write_tiny_gguf
from wire.bundle import ModelCard
from wire.chat_sandbox import Sandbox, Turn
from wire.chat_template import ChatTemplate
from wire.errors import RequestInvalidError
from wire.gguf import read_gguf
from wire.template_shape import Shape, shape_of

QWEN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
SLICED = """{% if messages[0].role == 'system' %}{% set said = messages[0].content %}\
{% set rest = messages[1:] %}{% else %}{% set said = 'none' %}{% set rest = messages %}{% endif %}\
<|system|>{{ said }}<|end|>{% for m in rest %}<|user|>{{ m.content }}{% endfor %}"""
TOOLS = """{% for m in messages %}{% if m.tool_calls is defined or m.content is not string %}x\
{% endif %}<|user|>{{ m.content }}{% if loop.index < messages | length %}\n{% endif %}\
{% endfor %}"""
COPYING: dict[str, tuple[str, Shape]] = {
    "chatml": (templates.PROVEN["chatml"], "as it is"),
    "assigned": (templates.ASSIGNED, "trimmed"),
    "role literals": (templates.ROLE_LITERALS, "as it is"),
    "plain text": (templates.PLAIN_TEXT, "as it is"),
    "no system": (templates.NO_SYSTEM, "trimmed"),
    "qwen": (QWEN, "as it is"),
    "sliced": (SLICED, "as it is"),
    "tools": (TOOLS, "as it is"),
}
OPAQUE = {
    **{name: templates.PROVEN[name] for name in ("thinking", "macro", "brackets", "namespace")},
    "asked for": "{{ messages[0].content }}{% if messages[0].content %}x{% endif %}",
    "compared": "{% for m in messages %}{{ m.content }}{{ m.content == 'a' }}{% endfor %}",
    "compared under a name": "{% set c = messages[0].content %}{{ c }}{% if c == 'a' %}{% endif %}",
    "measured": "{{ messages[0].content }}{{ messages[0].content | length }}",
    "iterated": "{% for c in messages[0].content %}{{ c }}{% endfor %}",
    "upper": "{{ messages[0].content | upper }}",
    "called": "{{ messages[0].content.strip() }}",
    "cut": "{{ messages[0].content[:3] }}",
    "formatted": "{{ '%s' % messages[0].content }}",
    "repeated": "{{ messages[0].content * 2 }}",
    "joined and trimmed": "{{ ('a ' + messages[0].content) | trim }}",
    "trimmed of characters": "{{ messages[0].content | trim('a') }}",
    "both": "{{ messages[0].content | trim }}{{ messages[1].content }}",
    "shown whole": "{{ messages[0] }}",
    "all shown": "{{ messages }}",
    "values": "{{ messages[0].content }}{% for v in messages[0].values() %}{{ v }}{% endfor %}",
    "got": "{{ messages[0].get('content') }}",
    "key by name": "{% set k = 'content' %}{{ messages[0][k] }}{{ messages[0].content }}",
    "neighbour": "{% for m in messages %}{{ loop.previtem.content == 'a' }}{% endfor %}",
    "changed": "{% for m in messages %}{{ loop.changed(m.content) }}{{ m.content }}{% endfor %}",
    "listed": "{% set l = [messages[0].content] %}{{ l[0] }}",
    "picked": "{% for m in messages | selectattr('content') %}{{ m.content }}{% endfor %}",
    "chosen in a loop": "{% for m in messages if m.content %}{{ m.content }}{% endfor %}",
    "chosen between": "{{ messages[0].content if messages[0].content else 'x' }}",
    "either": "{{ messages[0].content or 'x' }}",
    "contained": "{% if 'a' in messages[0].content %}x{% endif %}{{ messages[0].content }}",
    "dated": "{{ strftime_now('%d') }}{{ messages[0].content }}",
    "today": "{{ date_string }}{{ messages[0].content }}",
    "random": "{{ [1, 2, 3] | random }}{{ messages[0].content }}",
    "filter block": "{% filter upper %}{{ messages[0].content }}{% endfilter %}",
    "set block": "{% set c %}{{ messages[0].content }}{% endset %}{{ c | upper }}",
    "not shown": "{{ messages[0].role }}",
    "twice named": "{% set m = messages %}{% for m in m %}{{ m.content }}{% endfor %}",
}  # fmt: skip


def shape(source: str) -> Shape | None:
    return shape_of(Sandbox(datetime.now).read(source)[0])


@pytest.mark.parametrize("name", COPYING)
def test_a_template_that_copies_is_known(name: str) -> None:
    source, expected = COPYING[name]
    assert shape(source) == expected


@pytest.mark.parametrize("name", OPAQUE)
def test_a_template_that_looks_at_contents_is_opaque(name: str) -> None:
    assert shape(OPAQUE[name]) is None


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    vocabulary = train_vocabulary(control=templates.CONTROL)
    path = write_tiny_gguf(tmp_path_factory.mktemp("shape") / "m.gguf", vocab=vocabulary)
    with path.open("rb") as stream:
        return build_bundle(read_gguf(stream, path.stat().st_size)).card


said = st.lists(
    st.sampled_from(["<|im_end|>", "\n", " ", "\u3000", "\U00040001", "\U00050000", "{{ x }}", "a"])
    | st.text(max_size=4),
    max_size=4,
).map("".join)
conversations = st.lists(
    st.tuples(st.sampled_from(["system", "developer", "user", "assistant", "tool"]), said),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("system_role", [True, False])
@pytest.mark.parametrize("name", COPYING)
def test_skeletons_give_the_templates_own_renderings(
    name: str, system_role: bool, card: ModelCard
) -> None:
    changed = msgspec.structs.replace(
        card, chat_template=COPYING[name][0], system_role=system_role, add_bos=True
    )
    template = ChatTemplate(changed, datetime.now)
    assert template.is_copying

    @given(turns=conversations)
    @settings(deadline=None, max_examples=40)
    def check(turns: list[Turn]) -> None:
        for _ in range(2):
            assert outcome(template, turns, whole=False) == outcome(template, turns, whole=True)

    check()


def outcome(template: ChatTemplate, turns: list[Turn], *, whole: bool) -> object:
    try:
        return template.render_whole(turns) if whole else template.render(turns)
    except RequestInvalidError as error:
        return str(error)
