"""Fitting the complexity model, on a small examination of our own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_tier.gateway.complexity_model import Classifier, ComplexityModel, load
from edge_tier.gateway.request import Message, Prompt
from edge_tier.gateway.thresholds import Thresholds
from infra.training.complexity_data import Corpus, Question, read_questions
from infra.training.complexity_report import CURVE_POINTS, auc, halves, recovered, recovery_curve
from infra.training.fit_complexity import (
    FORM,
    SEEDED,
    TOPICS,
    FitConfig,
    Fitted,
    fit_complexity,
    main,
    stored,
)
from infra.training.seed_prompts import seed_prompts

CHOICES = "\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
EASY, HARD = "Which king ruled in the year {}?", "If a {} pays {} and would not, what follows?"


def examination() -> list[Question]:
    """Two subjects: in one the strong model is worth its price, in the other both know all."""
    hard = [HARD.format("tenant", n) + " Suppose it." * (n % 4) for n in range(40)]
    easy = [EASY.format(n) for n in range(40)]
    return [
        *(Question("law", text + CHOICES, n % 3 == 0, True) for n, text in enumerate(hard)),
        *(Question("kings", text + CHOICES, n % 10 > 0, True) for n, text in enumerate(easy)),
    ]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.of(examination(), seed_prompts(7, per_template=1))


@pytest.fixture(scope="module")
def fitted(corpus: Corpus) -> Fitted:
    config = FitConfig(form_penalty=2.0, seeded_penalty=10.0)
    return fit_complexity(corpus.examples, corpus.seeds, config)


def prompt(text: str) -> Prompt:
    return Prompt(kind="chat", model="auto", messages=(Message("user", text),))


def test_both_parts_are_learnt(corpus: Corpus, fitted: Fitted) -> None:
    assert auc(fitted.logits(corpus.examples), corpus.examples.label) > 0.75
    assert np.mean((fitted.logits(corpus.seeds) > 0) == corpus.seeds.label) > 0.8


def test_weights_keep_their_signs(fitted: Fitted) -> None:
    for name, sign in {**FORM, **TOPICS, **SEEDED}.items():
        assert fitted.dense[name] * sign >= 0, name


def test_what_only_tells_subjects_apart_is_not_learnt() -> None:
    long = " and so it goes on"
    questions = [
        # In both subjects the long ones are missed; in one all of them are about a term.
        *(Question("a", f"It is{long * (n % 2)}" + CHOICES, n % 2 == 0, True) for n in range(40)),
        *(Question("b", f"A term{long * (n % 2)}" + CHOICES, n % 2 == 0, True) for n in range(40)),
    ]
    corpus = Corpus.of(questions, seed_prompts(7, per_template=1))
    fitted = fit_complexity(corpus.examples, corpus.seeds, FitConfig(form_penalty=2.0))
    assert fitted.dense["words"] > 0.1
    assert fitted.dense["terms"] == pytest.approx(0)


def test_the_hardest_fifth_of_multiple_choice_scores_above_a_half(
    corpus: Corpus, fitted: Fitted
) -> None:
    share = float(np.mean(fitted.logits(corpus.examples) > 0))
    assert share == pytest.approx(0.2, abs=0.03)


def test_the_stored_model_scores_like_the_fitted_one(corpus: Corpus, fitted: Fitted) -> None:
    classifier = Classifier(stored(fitted, {}))
    texts = [question.prompt for question in corpus.questions[::7]]
    served = np.array([classifier.classify(prompt(text)).score for text in texts])
    logits = fitted.logits(corpus.examples)[::7]
    assert np.log(served / (1 - served)) == pytest.approx(logits, abs=0.05)


def test_the_command_fits_reports_and_writes_the_same_bytes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, first, second = (tmp_path / name for name in ("data.jsonl", "a.json", "b.json"))
    data.write_bytes(b"\n".join(map(msgspec.json.encode, examination())) + b"\n")
    assert read_questions(data) == examination()
    for out in (first, second):
        command = f"--data {data} --out {out} --seed 7 --splits 2 --per-template 1"
        main(command.split())
    assert first.read_bytes() == second.read_bytes()
    assert "seeds_other_templates_accuracy" in capsys.readouterr().out
    report = msgspec.json.decode(first.read_bytes(), type=ComplexityModel).report
    assert report["questions_recovered_by_chance"] == 0.2
    classifier = load(first.read_bytes())
    assert classifier.classify(prompt("Hello!")).score < 0.5
    thresholds = Thresholds(classifier.model.quantiles, classifier.model.recovered)
    assert 0 < thresholds.for_local_share(0.8) < 1


def test_the_recovery_curve_rises_from_nothing_to_all(corpus: Corpus) -> None:
    curve = recovery_curve(corpus, lambda _, __: lambda part: part.dense[:, 0], 7, 2)
    assert len(curve) == CURVE_POINTS
    assert curve == sorted(curve)
    assert (curve[0], curve[-1]) == (0, 1)


def test_halves_never_split_a_subject() -> None:
    subjects = np.array(["a", "b", "c", "d"] * 5)
    for train, test in halves(subjects, 7, 8):
        assert not set(subjects[train]) & set(subjects[test])
        assert len(train) + len(test) == len(subjects)


def test_recovered_counts_gains_and_losses_among_the_highest_scores() -> None:
    gap = np.array([1.0, 1.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    best, worst = np.array([9.0, 8.0, *range(8)]), np.array([1.0, 0.0, 9.0, 8.0, *[0.0] * 6])
    assert recovered(best, gap) == 1.0
    assert recovered(worst, gap) == -0.5


@pytest.mark.parametrize(
    ("scores", "expected"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5)]
)
def test_auc(scores: list[float], expected: float) -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(np.array(scores, dtype=float), labels) == expected
