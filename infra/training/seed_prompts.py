"""Prompts of our own that say what is simple and what is complex, generated from templates.

They teach the classifier what its other data (multiple-choice examinations) cannot: short questions
for a fact are simple however they are put, and requests to explain, prove, design or compute in
several steps are complex however short. All texts are written for this project.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from infra.training.seed_templates import COMPLEX, SIMPLE, SLOTS


@dataclass(frozen=True, slots=True)
class SeedPrompt:
    """A generated prompt. ``template`` groups prompts that must not be split in validation."""

    text: str
    is_complex: bool
    template: str


def seed_prompts(seed: int, per_template: int = 6) -> list[SeedPrompt]:
    """The seed set: at most ``per_template`` fillings of each template, in a repeatable order."""
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrecy
    prompts: list[SeedPrompt] = []
    for is_complex, templates in ((False, SIMPLE), (True, COMPLEX)):
        for template in templates:
            fillings = _fillings(template)
            chosen = rng.sample(fillings, min(per_template, len(fillings)))
            prompts += [SeedPrompt(text, is_complex, template) for text in chosen]
    return prompts


def _fillings(template: str) -> list[str]:
    """Every way to fill the slots of a template; equal slots get equal words."""
    names = [name for name in SLOTS if f"{{{name}}}" in template]
    return [
        template.format(**dict(zip(names, words, strict=True)))
        for words in product(*(SLOTS[name] for name in names))
    ]
