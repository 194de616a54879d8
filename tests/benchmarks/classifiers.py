"""How well the two classifiers of the prompts tell what they were not trained on, and how fast.

Read from ``HEADWATER_DATA``, by default ``../shared/data`` beside the checkout; without the data
there is nothing to measure, and that is said. Both models are fitted anew here, so that no
figure is of a text that the model has seen:

* complexity: on random halves of the subjects, scored on the other halves;
* injection: attacks that share text lie in one fold; the threshold is taken from a second fold.

The times are those of the shipped models.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_tier.gateway.classify import classify
from edge_tier.gateway.injection import detect
from edge_tier.gateway.request import Message, Prompt
from infra.training import fit_injection
from infra.training.complexity_data import Corpus, Examples, read_questions
from infra.training.complexity_report import report as complexity_figures
from infra.training.fit_complexity import FitConfig, fit_complexity
from infra.training.injection_data import read as read_texts
from infra.training.logistic import Floats
from infra.training.seed_prompts import seed_prompts
from tests.benchmarks.results import Machine, Row, report

DEFAULT = Path("../shared/data")
QUESTIONS = "complexity_mmlu_half.jsonl"
SEED = 7
_SENTENCE = (
    "Could you please explain to me in a few short sentences why the sky looks blue during the day "
    "but turns red and orange in the evening when the sun sets? "
)
LENGTHS = {"30 words": _SENTENCE, "1 KB": (_SENTENCE * 7)[:1_024], "4 KB": (_SENTENCE * 27)[:4_096]}


def complexity_rows(folder: Path, *, quick: bool) -> list[Row]:
    """The figures on subjects that the model has not seen."""
    corpus = Corpus.of(read_questions(folder / QUESTIONS), seed_prompts(SEED, 2 if quick else 6))
    config = FitConfig()

    def fit(questions: Examples, seeds: Examples) -> Callable[[Examples], Floats]:
        return fit_complexity(questions, seeds, config).logits

    figures = complexity_figures(corpus, fit, SEED, 2 if quick else 60)
    other = "questions_other_subjects_"
    share = "share of the quality gap recovered at 20 % strong calls"
    return [
        Row(
            name="complexity: AUROC, other subjects",
            unit="",
            runs=[figures[f"{other}auc"]],
            target=0.66,
        ),
        Row(
            name=f"complexity: {share}, other subjects",
            unit="",
            runs=[figures[f"{other}recovered"]],
            target=0.42,
        ),
        Row(
            name="the same, if each question's subject and its gap were known",
            unit="",
            runs=[figures[f"{other}recovered_by_true_subject"]],
        ),
        Row(name="the same, by length", unit="", runs=[figures[f"{other}recovered_by_length"]]),
    ]


def injection_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Recall and false positives on folds that the model has not seen."""
    config = fit_injection.FitConfig(iterations=30 if quick else 100)
    texts = read_texts(folder, SEED)
    windows = fit_injection.Windows.of(texts, config)
    figures = fit_injection.report(windows, texts, SEED, config)
    rows = [
        Row(
            name="injection: recall in the wild, unseen attacks",
            unit="",
            runs=[figures.pop("recall_in_the_wild")],
            target=0.85,
        ),
        Row(
            name="injection: false positives, unseen texts",
            unit="",
            runs=[figures.pop("false_positives")],
            target=0.01,
            higher_is_better=False,
        ),
    ]
    figures.pop("threshold_logit")
    named = sorted(figures.items())
    return rows + [
        Row(name=f"injection: {name.replace('_', ' ')}", unit="", runs=[value])
        for name, value in named
    ]


def time_rows(*, quick: bool) -> list[Row]:
    """Processor time of one call, in the best of several runs: the machine may be busy."""
    rows = []
    for length, text in LENGTHS.items():
        prompt = Prompt(kind="chat", model="auto", messages=(Message("user", text),))
        calls: dict[str, tuple[Callable[[], object], float | None]] = {
            "complexity": (partial(classify, prompt), 100.0),
            "injection": (partial(detect, (text,)), {"30 words": 15.0, "1 KB": 60.0}.get(length)),
        }
        for name, (call, target) in calls.items():
            rows.append(
                Row(
                    name=f"{name}: time for {length}",
                    unit="µs",
                    runs=[_microseconds(call, 3 if quick else 20)],
                    target=target,
                    higher_is_better=False,
                )
            )
    return rows


def _microseconds(call: Callable[[], object], runs: int, calls: int = 200) -> float:
    best = float("inf")
    for _ in range(runs):
        begun = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, time.process_time() - begun)
    return best / calls * 1e6


def main(*, quick: bool) -> None:
    """Print and write the figures. Takes minutes: the models are fitted many times."""
    folder = Path(os.environ.get("HEADWATER_DATA", DEFAULT))
    machine = Machine()
    rows = time_rows(quick=quick)
    if (folder / QUESTIONS).is_file():
        rows += [*complexity_rows(folder, quick=quick), *injection_rows(folder, quick=quick)]
    else:
        print(f"classifiers: {folder} has no {QUESTIONS}; set HEADWATER_DATA for more than times")
    report("classifiers", rows, machine)


if __name__ == "__main__":
    main(quick=False)
