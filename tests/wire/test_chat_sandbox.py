"""The sandbox of chat templates: what they get, and what they never reach."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from jinja2.exceptions import TemplateError

from wire.bundle import BundleInvalidError
from wire.chat_sandbox import Renderer, Sandbox, messages_of
from wire.errors import RequestInvalidError

HELLO = [{"role": "user", "content": "secret words"}]


def now() -> datetime:
    return datetime(2024, 7, 26, 12, 30, tzinfo=UTC)


def renderer(source: str) -> Renderer:
    sandbox = Sandbox(now)
    return Renderer(sandbox, sandbox.read(source)[0], {"bos_token": "<s>"})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}", "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception.__globals__ }}", "{{ cycler.__init__.__globals__.os }}",
        "{{ ''['__class__'] }}",
        "{{ messages | attr('__class__') }}", "{{ messages | map(attribute='__class__') | list }}",
        "{{ '{0.__class__}'.format(messages) }}", "{{ ('{0.__class' + '__}').format(messages) }}",
        "{% set f = '{0.__class__}'.format %}{{ f(messages) }}",
        "{{ '{x.__class__}'.format_map({'x': messages}) }}", "{{ messages.append(1) }}",
        "{{ self._TemplateReference__context }}", "{{ strftime_now.__code__ }}",
    ],
)  # fmt: skip
def test_a_template_that_reaches_out_is_stopped(source: str) -> None:
    with pytest.raises((BundleInvalidError, RequestInvalidError)):
        renderer(source).render(HELLO)


def test_what_only_a_hostile_template_does_is_no_fault_of_the_request() -> None:
    with pytest.raises(BundleInvalidError, match=r"str\.__class__ is out of reach"):
        renderer("{{ ''.__class__ }}").render(HELLO)


def test_a_refusal_is_told_in_the_templates_own_words() -> None:
    with pytest.raises(RequestInvalidError, match="messages: Only users, please"):
        renderer("{{ raise_exception('Only users, please') }}").render(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception(messages[0].content) }}", "{{ messages[0].content + 1 }}",
        "{{ messages[0].content | int + none }}", "{{ undefined_thing.x.y }}",
        "{{ messages[0].content | tojson(object=1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)  # fmt: skip
def test_a_failure_never_repeats_the_prompt(source: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        renderer(source).render(HELLO)
    assert "cannot show these messages" in caught.value.message
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None


def test_white_space_around_tags_is_trimmed_as_llama_cpp_trims_it() -> None:
    source = "A\n    {% if true %}\nB\n    {% endif %}\n  {{ 'C' }}\n{# gone #}\nD\n"
    assert renderer(source).render(HELLO) == "A\nB\n  C\nD"


def test_dates_come_from_the_given_clock() -> None:
    source = "{{ strftime_now('%H:%M') }} {{ date_string }} {{ datetime }}"
    assert renderer(source).render(HELLO) == "12:30 26 Jul 2024 Jul 26 2024"
    sandbox = Sandbox(now)
    bare = Renderer(sandbox, sandbox.parse("{{ date_string }}"), {}, dated=False)
    assert bare.render(HELLO) == ""


def test_loops_generation_and_json_are_there() -> None:
    loop = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    generation = "{% generation %}{{ bos_token }}{% endgeneration %}"
    as_json = "{{ messages | tojson }}"
    expected = '01<s>[{"role": "user", "content": "secret words"}]'
    assert renderer(loop + generation + as_json).render(HELLO) == expected


def test_json_is_not_escaped() -> None:
    assert renderer("{{ {'a': 'é<&>'} | tojson }}").render([]) == '{"a": "é<&>"}'


def test_a_template_that_is_none_does_not_compile() -> None:
    for source in ("{% if %}", "{{ x | nofilter }}", "{% include 'x' %}{% endif %}"):
        with pytest.raises(TemplateError):
            renderer(source)


def test_messages_have_the_roles_that_templates_know() -> None:
    turns = [("developer", "a"), ("user", "b"), ("assistant", "c"), ("tool", "d")]
    roles = [message["role"] for message in messages_of(turns, system_role=True)]
    assert roles == ["system", "user", "assistant", "tool"]
    with pytest.raises(RequestInvalidError, match="role 'root'"):
        messages_of([("root", "x")], system_role=True)


def test_a_system_message_goes_into_the_next_where_the_template_has_no_place_for_it() -> None:
    turns = [("system", "rules"), ("user", "question"), ("system", "later")]
    assert messages_of(turns, system_role=False) == [
        {"role": "user", "content": "rules\nquestion"}, {"role": "system", "content": "later"},
    ]  # fmt: skip
    assert messages_of(turns[:1], system_role=False) == []
