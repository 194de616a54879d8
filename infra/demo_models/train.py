"""Trains the demo models from a seed: `python -m infra.demo_models.train --out DIR --seed 7`.

Runs on the CPU with two threads. The same seed, torch version, number of threads and kind of CPU
give the same bytes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from infra.demo_models import export, model
from infra.demo_models.batches import Batches
from infra.demo_models.corpus import Corpus, Mixture, words_of
from infra.demo_models.export import Card
from infra.demo_models.facts import GROUPS, R2_GROUP, taught
from infra.demo_models.model import Shape, Weights
from infra.demo_models.vocabulary import Vocabulary

VOCABULARY_SIZE = 1280
VOCABULARY_TURNS = 40_000
THREADS = 2
# What r2 practises more than r1 did: its further group, and what r1 knows least well.
R2_WEIGHTS = {R2_GROUP: 12.0, "small_talk": 3.0, "identity_edge": 4.0, "counting": 4.0}
EDGE_DESCRIPTION = (
    "A toy model that answers a few everyday questions. Trained from scratch by the Headwater "
    "project on text generated from plain facts; made for demonstrations and tests."
)
CLOUD_DESCRIPTION = (
    "The larger toy model that stands for a cloud model. Trained from scratch by the Headwater "
    "project on text generated from plain facts; made for demonstrations and tests."
)


@dataclass(frozen=True)
class Course:
    """One training run: `steps` batches, learning rates at their peak, warm-up in steps."""

    steps: int
    adam_rate: float = 1e-2
    muon_rate: float = 0.02
    warm_up: int = 50
    decay: float = 0.01


@dataclass(frozen=True)
class Recipe:
    """How one model is made; `seed` keeps the corpora of the models apart."""

    card: Card
    shape: Shape
    course: Course
    mixture: Mixture
    seed: int


EDGE_SHAPE = Shape(VOCABULARY_SIZE)
RECIPES: dict[str, Recipe] = {
    "edge-small-r1": Recipe(
        Card("edge-small", "r1", EDGE_DESCRIPTION, "2M"),
        EDGE_SHAPE,
        Course(steps=1100),
        Mixture(),
        seed=1,
    ),
    "edge-small-r2": Recipe(
        Card("edge-small", "r2", EDGE_DESCRIPTION, "2M"),
        EDGE_SHAPE,
        Course(steps=500, adam_rate=3e-3, muon_rate=0.01, warm_up=20),
        Mixture(guesses=0.14),
        seed=2,
    ),
    "cloud-large": Recipe(
        Card("cloud-large", "r1", CLOUD_DESCRIPTION, "4M", "Q8_0"),
        Shape(VOCABULARY_SIZE, layers=5, feed_forward=768),
        Course(steps=1300),
        Mixture(guesses=0.06, echoes=0.05),
        seed=3,
    ),
}


def optimizers(weights: Weights, course: Course) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for the embedding and the norms.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """
    free = {name: tensor for name, tensor in weights.items() if tensor.requires_grad}
    inner = [v for name, v in free.items() if v.ndim == 2 and name != model.EMBEDDING]
    outer = [v for name, v in free.items() if v.ndim == 1 or name == model.EMBEDDING]
    adam = torch.optim.AdamW(outer, lr=course.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    muon = torch.optim.Muon(
        inner, lr=course.muon_rate, weight_decay=course.decay, momentum=0.95, ns_steps=5
    )
    return [adam, muon]


def rate_at(step: int, course: Course) -> float:
    """The share of the peak learning rate at `step`: linear up, then linear down to 2 %."""
    if step < course.warm_up:
        return (step + 1) / course.warm_up
    rest = (course.steps - step) / max(1, course.steps - course.warm_up)
    return max(0.02, rest)


def train(name: str, weights: Weights, shape: Shape, batches: Batches, course: Course) -> None:
    """Improves the tensors of `weights` that ask for a gradient, in place."""
    steppers = optimizers(weights, course)
    peaks = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    started, smooth = time.monotonic(), math.nan
    for step in range(course.steps):
        groups = [group for stepper in steppers for group in stepper.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate_at(step, course)
        batch = batches.next()
        loss = model.answer_loss(weights, shape, batch.tokens, batch.taught)
        for stepper in steppers:
            stepper.zero_grad(set_to_none=True)
        loss.backward()
        for stepper in steppers:
            stepper.step()
        smooth = loss.item() if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 49 or step == course.steps - 1:
            spent = time.monotonic() - started
            done = f"{name} step {step + 1}/{course.steps}"
            print(f"{done} loss {smooth:.4f} {spent:.0f} s", flush=True)


def learn_vocabulary(seed: int) -> Vocabulary:
    """The tokenizer that all models share, learnt from turns about all facts."""
    corpus = Corpus(list(GROUPS.values()), words_of(list(GROUPS.values())), seed)

    def texts() -> Iterator[str]:
        for turn in (corpus.turn() for _ in range(VOCABULARY_TURNS)):
            yield turn.user
            yield turn.assistant

    return Vocabulary.trained(texts(), VOCABULARY_SIZE)


def batches_for(name: str, words: Vocabulary, seed: int, mixture: Mixture) -> Batches:
    """Training batches about what the model `name` is taught."""
    groups = list(taught(name))
    if name == "edge-small-r2":
        groups = [replace(one, weight=R2_WEIGHTS.get(one.name, one.weight)) for one in groups]
    corpus = Corpus(groups, words_of(list(GROUPS.values())), seed, mixture)
    return Batches(corpus, words, [group for group in groups if group.name == "long_counting"])


def start(name: str, shape: Shape, seed: int, out: Path) -> Weights:
    """What the training of `name` starts from, with a gradient where it may change."""
    if name != "edge-small-r2":
        weights = model.initial(shape, seed)
        changing = list(weights)
    else:
        weights = export.read(out / "edge-small-r1.gguf")
        changing = [key for key in weights if key.startswith(f"blk.{shape.layers - 1}.")]
        changing.append(model.FINAL_NORM)
    for key in changing:
        weights[key].requires_grad_(True)
    return weights


def make(name: str, words: Vocabulary, seed: int, scale: float, out: Path) -> None:
    """Trains the model `name` and writes `out/name.gguf`."""
    recipe = RECIPES[name]
    shape = replace(recipe.shape, vocabulary=words.size)
    weights = start(name, shape, seed, out)
    print(f"{name}: {model.parameters(weights)} parameters", flush=True)
    course = replace(recipe.course, steps=max(2, round(recipe.course.steps * scale)))
    batches = batches_for(name, words, seed * 1000 + recipe.seed, recipe.mixture)
    train(name, weights, shape, batches, course)
    export.write(out / f"{name}.gguf", weights, shape, words, recipe.card)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the GGUF files")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps, for a trial")
    parser.add_argument("--only", choices=list(RECIPES), nargs="*", default=list(RECIPES))
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    torch.manual_seed(given.seed)
    torch.use_deterministic_algorithms(True)
    given.out.mkdir(parents=True, exist_ok=True)
    words = learn_vocabulary(given.seed)
    for name in given.only:
        make(name, words, given.seed, given.scale, given.out)


if __name__ == "__main__":
    main()
