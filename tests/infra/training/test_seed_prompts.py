"""The seed prompts: repeatable, balanced, without gaps in the templates."""

from __future__ import annotations

import string

from infra.training.seed_prompts import seed_prompts
from infra.training.seed_templates import COMPLEX, SIMPLE, SLOTS


def test_the_same_seed_gives_the_same_prompts() -> None:
    assert seed_prompts(7) == seed_prompts(7)
    assert seed_prompts(7) != seed_prompts(8)


def test_every_template_is_used_and_filled() -> None:
    prompts = seed_prompts(7)
    assert {prompt.template for prompt in prompts} == {*SIMPLE, *COMPLEX}
    texts = [prompt.text for prompt in prompts]
    assert len(set(texts)) == len(texts)
    assert all(f"{{{name}}}" not in text for text in texts for name in SLOTS)


def test_both_kinds_are_well_represented() -> None:
    kinds = [prompt.is_complex for prompt in seed_prompts(7)]
    assert 300 < sum(kinds) < len(kinds) - 300


def test_templates_name_only_known_slots_and_stand_on_one_side() -> None:
    for template in (*SIMPLE, *COMPLEX):
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        assert names <= SLOTS.keys(), template
    assert not set(SIMPLE) & set(COMPLEX)
    assert len(set(SIMPLE)) == len(SIMPLE)
    assert len(set(COMPLEX)) == len(COMPLEX)


def test_the_number_of_fillings_is_bounded() -> None:
    prompts = seed_prompts(7, per_template=1)
    assert len(prompts) == len(SIMPLE) + len(COMPLEX)
