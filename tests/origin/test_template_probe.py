"""No hostile chat template is signed, whatever it does to the process that renders it."""

from __future__ import annotations

import pytest

from origin.template_probe import ProbeConfig, TemplateRefusedError, examine, probe_template
from tests.fakes.templates import CONTROL, PROVEN, UNPROVEN
from wire.bundle import ModelCard, SpecialToken

QUICK = ProbeConfig(cpu_s=1, wall_s=50, memory_bytes=256 * 2**20, rendered_bytes=100_000)


def card(source: str) -> ModelCard:
    tokens = tuple(SpecialToken(text, 100 + index) for index, text in enumerate(CONTROL))
    return ModelCard(
        architecture="llama", name="tiny", context_length=1, parameters=1, quantization="F32",
        vocab_size=200, tokenizer="exact", template="none", chat_template=source,
        bos=SpecialToken("<s>", 103), eos=SpecialToken("</s>", 104), control_literals=tokens,
    )  # fmt: skip


def refusal(source: str, config: ProbeConfig = QUICK) -> str:
    with pytest.raises(TemplateRefusedError) as caught:
        probe_template(card(source), config)
    assert caught.value.status == 422
    return caught.value.message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception.__globals__ }}", "out of reach"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "out of reach"),
        ("{% set f = '{0.__globals__}'.format %}{{ f(raise_exception) }}", "out of reach"),
        ("{% for m in messages[2:] %}{{ m.__class__ }}{% endfor %}", "out of reach"),
        ("{{ messages[0].update({}) }}", "out of reach"),
        ("{% for i in %}", "Expected an expression"),
        ("{{ x | shell }}", "No filter named 'shell'"),
        ("{{ raise_exception('never') }}", "cannot show these messages: never"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ 'x' * 10**6 }}", "longer than 100000 B"),
    ],
)
def test_a_bad_template_is_refused_with_its_reason(source: str, reason: str) -> None:
    assert reason in refusal(source)


def test_a_loop_of_10_to_the_9_ends_with_the_cpu_time() -> None:
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    assert "more than 1 s of CPU" in refusal(loops)


def test_a_number_that_takes_forever_ends_with_the_cpu_time() -> None:
    assert "more than 1 s of CPU" in refusal("{{ 9 ** (9 ** 9) }}")


def test_a_range_beyond_the_sandboxs_is_refused() -> None:
    assert "OverflowError" in refusal("{% for i in range(10**9) %}{% endfor %}")


def test_memory_ends_with_the_limit() -> None:
    assert "B of memory" in refusal("{{ 'x' * 10**10 }}")


def test_a_long_reason_is_cut_short() -> None:
    assert len(refusal("{{ x | " + "f" * 100_000 + " }}")) < 1_000


def test_a_list_that_grows_forever_ends_with_a_limit() -> None:
    growing = (
        "{% set ns = namespace(a=['x' * 1000]) %}{% for i in range(99) %}"
        "{% set ns.a = ns.a + ns.a %}{% endfor %}{{ messages[0].content }}"
    )
    assert refused_soon(growing) in ("memory", "CPU")


def test_a_text_that_doubles_forever_ends_with_a_limit() -> None:
    doubling = (
        "{% set ns = namespace(a='xx') %}{% for i in range(99) %}"
        "{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ messages[0].content }}"
    )
    assert refused_soon(doubling) in ("memory", "CPU")


def test_a_wide_format_ends_with_the_memory() -> None:
    assert refused_soon("{{ '%1000000000000d' % 1 }}") in ("memory", "Error")
    assert refused_soon("{{ 'x'.ljust(10 ** 11) }}") == "memory"


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
    ],
)
def test_recursion_without_an_end_is_refused(source: str) -> None:
    assert refused_soon(source) in ("RecursionError", "CPU", "memory", "crash")


@pytest.mark.parametrize(
    "source",
    ["{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "{% if 1 %}" * 3_000 + "{% endif %}" * 3_000,
     "{{ 1" + " + 1" * 20_000 + " }}", "{{ [" * 2_000, "{% for i in x %}" * 50_000],
)  # fmt: skip
def test_a_template_nested_too_deeply_is_refused(source: str) -> None:
    assert refused_soon(source)


def refused_soon(source: str) -> str:
    """What ended the template: one of its other bounds, before the wall clock's."""
    reason = refusal(source)
    assert "longer than" not in reason
    known = ("memory", "CPU", "RecursionError", "Error", "crash", "ended with status", "expected")
    return next((word for word in known if word in reason), reason)


def test_a_template_that_only_waits_ends_with_the_wall_clock() -> None:
    assert "longer than 0.01 s" in refusal("hello", ProbeConfig(wall_s=0.01))


def test_a_template_beyond_the_limit_is_not_even_parsed() -> None:
    assert "limit is 262144 B" in refusal("x" * 300_000)


@pytest.mark.parametrize("name", PROVEN)
def test_a_good_template_is_shown_without_doubt(name: str) -> None:
    report = examine(card(PROVEN[name]), rendered_bytes=10**7)
    assert report.doubts == ()
    assert report.system_role == (name != "no system")
    turns, prompt = report.conversations[0]
    assert [role for role, _ in turns] == ["user"]
    assert turns[0][1] in prompt


def test_an_unproven_template_is_a_doubt() -> None:
    (doubt,) = probe_template(card(UNPROVEN["looked up"])).doubts
    assert "control token" in doubt


def test_literals_that_only_come_together_in_the_output_are_a_doubt() -> None:
    source = "<|{% if true %}user{% endif %}|>{{ messages[0].content }}"
    (doubt,) = probe_template(card(source)).doubts
    assert "could not be told from content" in doubt


def test_a_template_that_asks_whether_to_think_says_so() -> None:
    asking = "{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}"
    assert probe_template(card(asking)).asks_thinking
    assert not probe_template(card("{{ messages[0].content }}")).asks_thinking


def test_the_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_SECRET", "x")
    monkeypatch.setenv("PYTHONSTARTUP", "/nonexistent")
    assert probe_template(card("{{ messages[0].content }}")).doubts == ()
