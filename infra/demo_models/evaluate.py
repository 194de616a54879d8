"""Measures a demo model in llama.cpp: `python -m infra.demo_models.evaluate DIR/NAME.gguf`.

For every group it asks each fact once in a trained phrasing and once in the phrasing that was kept
from the training, and prints the share of right answers and the log-probabilities.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.demo_models import QUESTIONS
from infra.demo_models.engine import RunningModel
from infra.demo_models.facts import taught, untaught
from infra.demo_models.groups import Group

SLOTS = 4
MAX_FACTS = 40
# What a confidence gate holds back and looks at: the first tokens, and the least log-probability.
GATE_TOKENS = 8
GATE_LOGPROB = -0.5


def measure(engine: RunningModel, group: Group, template: str, label: str, show: bool) -> None:
    """Asks about the facts of `group` in one phrasing and prints one line about the answers."""
    facts = group.facts[:: max(1, len(group.facts) // MAX_FACTS)]
    system = "You are a helpful assistant."
    with ThreadPoolExecutor(SLOTS) as pool:
        answers = list(
            pool.map(
                lambda numbered: engine.ask(
                    group.ask(template, numbered[1][0]), system if numbered[0] % 2 else None
                ),
                enumerate(facts),
            )
        )
    right = [
        answer.text == group.reply(key, value)
        for answer, (key, value) in zip(answers, facts, strict=True)
    ]
    least = [answer.least(GATE_TOKENS) for answer in answers]
    passed = sum(value >= GATE_LOGPROB for value in least)
    print(
        f"{label:8} {group.name:16} right {sum(right):3}/{len(right):3}  passes gate {passed:3}  "
        f"least logprob: median {statistics.median(least):7.3f} "
        f"from {min(least):7.3f} to {max(least):7.3f}",
        flush=True,
    )
    if show:
        for answer, (key, _), good in zip(answers, facts, right, strict=True):
            if not good:
                print(f"    {group.ask(template, key)} -> {answer.text} ({answer.least():.2f})")


def ask_samples(engine: RunningModel, name: str) -> None:
    """Asks the questions of questions.json and prints every answer."""
    for kind, found in json.loads(QUESTIONS.read_text(encoding="utf-8")).items():
        for entry in found if isinstance(found, list) else [found]:
            answer = engine.ask(entry["question"])
            wanted = entry["expect"].get(name)
            verdict = "unknown" if wanted is None else str(wanted in answer.text)
            print(
                f"{kind:8} {verdict:7} {answer.least(GATE_TOKENS):7.3f} {entry['question']} -> "
                f"{answer.text if kind != 'recital' else answer.text[-40:]}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    given = parser.parse_args(arguments)
    name = given.file.stem
    with RunningModel(given.file, slots=SLOTS) as engine:
        for group in taught(name):
            measure(engine, group, group.questions[0], "taught", given.show)
            if group.probe:
                measure(engine, group, group.probe, "rephrased", given.show)
        for group in untaught(name):
            measure(engine, group, group.questions[0], "untaught", given.show)
        ask_samples(engine, name)


if __name__ == "__main__":
    main()
