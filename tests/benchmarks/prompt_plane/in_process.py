"""The pipeline alone, from the caller's key to the plan, in one process without HTTP.

A real bundle (the demo model's, with a longer context), a key with limits, the default policy, and
prompts that never come twice; only a growing chat says again what it said before.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop

from edge_tier.gateway.auth import KeyStore
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.hints import Hints
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.parse import ParseConfig
from edge_tier.gateway.pipeline import Inbound, Pipeline, PipelineConfig, Stopwatch
from edge_tier.gateway.request import Limits
from origin.bundle import build_bundle
from origin.template_probe import examine
from tests.benchmarks.prompt_plane.corpus import ROOT, Prose, chat_body
from tests.benchmarks.prompt_plane.peers import LIMITS
from tests.benchmarks.results import Row
from tests.fakes.gateway import MODEL, trusting
from tests.fakes.source import MemorySource
from wire.gguf import read_gguf
from wire.manifest import build, encode
from wire.workers import WorkerReport

FIGURE = Path("docs/figures/gateway-pipeline.svg")
SIZES = (100, 250, 1_000, 4_000, 16_000, 64_000, 128_000)
GROWN_TOKENS = 38_000
_CONTEXT = 1_000_000
_P50_MS = {1_000: 0.2}


@dataclass(frozen=True, slots=True)
class Bench:
    """A pipeline and what is needed to ask it."""

    pipeline: Pipeline
    limiter: MemoryLimiter
    authorization: str

    async def ask(self, body: bytes) -> tuple[float, dict[str, float], int]:
        """Milliseconds of the whole, by stage, and the tokens of the prompt."""
        started = time.perf_counter()
        watch = Stopwatch()
        caller = self.pipeline.authenticate(self.authorization)
        watch.lap("auth")
        admitted = await self.pipeline.admit(
            Inbound(kind="chat", caller=caller, body=body, hints=Hints()), watch
        )
        took = (time.perf_counter() - started) * 1e3
        await self.limiter.settle(admitted.reservation, len(admitted.tokens), 1)
        return took, dict(watch.stages), len(admitted.tokens)


def open_bench(folder: Path) -> Bench:
    """The stages as an edge has them."""
    source = MemorySource()
    file = ROOT / "infra/demo_models/edge-small-r1.gguf"
    with file.open("rb") as stream:
        gguf = read_gguf(stream, file.stat().st_size)
    bundle = build_bundle(gguf, probe=lambda card: examine(card, rendered_bytes=10**7))
    card = msgspec.structs.replace(bundle.card, context_length=_CONTEXT)
    files = list(replace(bundle, card=card).files())
    for _, data in files:
        source.add_chunk(data)
    revision = source.add_manifest(encode(build(MODEL, tuple(entry for entry, _ in files), {})))
    view, fleet, limiter = trusting(revision), Fleet(time.monotonic), MemoryLimiter()
    keys = KeyStore.open(folder / "keys.json", folder / "pepper")
    pipeline = Pipeline(
        PipelineConfig(parse=ParseConfig(max_body_bytes=4 * 1024 * 1024)),
        auth=keys,
        limiter=limiter,
        models=ModelDirectory(source, lambda: view),
        fleet=fleet,
        cloud_models=lambda: (frozenset(), frozenset()),
    )
    fleet.report(
        WorkerReport(
            worker="w1", url="http://127.0.0.1:1", model=MODEL, channel="stable", state="ready",
            revision=revision, slots=10_000, busy=0, queue=0, ttl_s=3_600.0,
        )
    )  # fmt: skip
    return Bench(pipeline, limiter, f"Bearer {keys.create(tenant='t', limits=Limits(**LIMITS))[1]}")


def measure(folder: Path, rounds: int, requests: int) -> list[Row]:
    """All figures of the pipeline alone, and the curve drawn."""
    return uvloop.run(_measure(open_bench(folder), rounds, requests))


async def _measure(bench: Bench, rounds: int, requests: int) -> list[Row]:
    prose = Prose(seed=7)
    for _ in range(600):  # the words of the corpus become known, as after a few minutes of service
        await bench.ask(chat_body([("user", prose.text(1_000))]))
    gc.freeze()
    middle: dict[int, list[float]] = {size: [] for size in SIZES}
    high: dict[int, list[float]] = {size: [] for size in SIZES}
    stages: dict[str, list[float]] = {}
    for _ in range(rounds):
        for size in SIZES:
            count = max(20, requests * 1_000 // max(size, 1_000))
            bodies = [chat_body([("user", prose.text(size))]) for _ in range(count)]
            answers = [await bench.ask(body) for body in bodies]
            took = sorted(ms for ms, _, _ in answers)
            middle[size].append(took[len(took) // 2])
            high[size].append(took[int(len(took) * 0.99)])
            if size == 1_000:
                for stage in answers[0][1]:
                    times = [by_stage[stage] for _, by_stage, _ in answers]
                    stages.setdefault(stage, []).append(statistics.median(times) * 1e3)
    draw(middle, high, FIGURE)
    return [
        *(_row(f"pipeline alone, {size:,} characters, p50", middle[size], _P50_MS.get(size))
          for size in SIZES),
        _row("pipeline alone, 1,000 characters, p99", high[1_000], 1.0),
        *(Row(name=f"stage {stage}, 1,000 characters", unit="µs", runs=runs)
          for stage, runs in stages.items()),
        *await _grown(bench, prose, rounds),
    ]  # fmt: skip


async def _grown(bench: Bench, prose: Prose, rounds: int) -> list[Row]:
    """A chat with one new turn after so many known ones."""
    whole, tokenize, cold = [], [], []
    for _ in range(rounds):
        turns, tokens = [("user", prose.text(500))], 0
        while tokens < GROWN_TOKENS:
            took, _, tokens = await bench.ask(chat_body(turns))
            turns += [("assistant", prose.text(900)), ("user", prose.text(300))]
        for _ in range(5):
            took, stages, _ = await bench.ask(chat_body(turns))
            whole.append(took)
            tokenize.append(stages["tokenize"])
            turns += [("assistant", prose.text(900)), ("user", prose.text(300))]
        fresh = [(role, prose.text(len(said))) for role, said in turns]
        cold.append((await bench.ask(chat_body(fresh)))[0])
    return [
        _row(f"a chat of {GROWN_TOKENS:,} tokens grows by a turn: tokenize", tokenize, 6.0),
        _row(f"a chat of {GROWN_TOKENS:,} tokens grows by a turn: whole pipeline", whole),
        _row("such a chat seen for the first time: whole pipeline", cold),
    ]


def _row(name: str, runs: Sequence[float], target: float | None = None) -> Row:
    return Row(name=name, unit="ms", runs=runs, target=target, higher_is_better=False)


def draw(middle: dict[int, list[float]], high: dict[int, list[float]], file: Path) -> None:
    """The curve as SVG."""
    import matplotlib as mpl  # heavy, and only drawn here
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "headwater", "font.size": 9}):
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        for label, runs, color in (("p50", middle, "#1b6ca8"), ("p99", high, "#c46210")):
            ms = [statistics.median(values) for values in runs.values()]
            axes.plot(list(runs), ms, marker="o", label=label, color=color)
        axes.set(
            xlabel="characters of the prompt", ylabel="ms", xscale="log", yscale="log",
            title="The pipeline alone, prompts never seen before",
        )  # fmt: skip
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(file, format="svg", metadata={"Date": None})


if __name__ == "__main__":  # in a process of its own: nobody else's garbage
    with TemporaryDirectory() as name:
        rows = measure(Path(name), int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps([asdict(row) for row in rows]))
