"""What :mod:`gpu_worker.fit` says against what llama.cpp allocates, by its own log, on models of
known shape. Tolerances: weights 1 %, keys and values to the log's decimals, buffers to compute in
from 0 to 35 % too much (they are a small part of the whole), never too little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from gpu_worker.fit import fit_row
from gpu_worker.fit_needs import Ask, FitConfig, compute_bytes, kv_bytes
from gpu_worker.hardware import Hardware
from gpu_worker.model_shape import ModelShape, model_shape
from gpu_worker.supervisor import SupervisorConfig
from tests.fakes.shaped_gguf import Shape, write_shaped_gguf
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.waiting import until
from wire.gguf import read_gguf

_SIZE = re.compile(r"(model|KV|RS|compute) buffer size = +([\d.]+) MiB")
_MIB = 1 << 20
ROOMY = Hardware(name="M", ram_bytes=1 << 40, ram_free_bytes=1 << 40)


@dataclass(frozen=True)
class Measured:
    """Bytes by llama.cpp's log, and the process's resident set."""

    weights: float
    kv: float
    compute: float
    resident: int


async def measure(path: Path, ask: Ask) -> Measured:
    """Load a model and read what was allocated for it."""
    config = LlamaCppConfig(
        slots=ask.slots,
        context_tokens=ask.context_tokens,
        batch_tokens=ask.batch_tokens,
        threads=1,
        warmup=False,
        verbosity=4,
    )
    logs = SupervisorConfig(ready_timeout_s=45, log_lines=2_000)
    engine = LlamaCpp(path, model="m", revision="a" * 64, config=config, supervisor=logs)
    try:
        await engine.start()
        # The log has a pipe of its own: it may be behind the news that the engine is up.
        await until(lambda: any("compute buffer" in line for line in engine.process.log_tail()))
        log = "\n".join(engine.process.log_tail())
        resident = psutil.Process(engine.process.pid).memory_info().rss
    finally:
        await engine.aclose()
    found = {"model": 0.0, "KV": 0.0, "RS": 0.0, "compute": 0.0}
    for line in log.splitlines():
        # A repacked copy stands beside the mapped file, whose pages can be dropped then.
        if (match := _SIZE.search(line)) and "REPACK" not in line:
            found[match[1]] += float(match[2]) * _MIB
    assert found["model"], log
    return Measured(found["model"], found["KV"] + found["RS"], found["compute"], resident)


def shape_of(path: Path) -> ModelShape:
    with path.open("rb") as stream:
        return model_shape(read_gguf(stream, path.stat().st_size))


CASES = {
    "llama": (Shape(tokens=True), Ask()),
    "wide": (Shape(tokens=True, ff=8_192), Ask(slots=1, context_tokens=512)),
    "many queries": (
        Shape(tokens=True, heads=32, head_dim=128, layers=3, ff=256),
        Ask(slots=1, context_tokens=512),
    ),
    "long": (Shape(tokens=True, context=32_768), Ask(slots=2, context_tokens=16_384)),
    "small batches": (Shape(tokens=True), Ask(slots=3, context_tokens=1_000, batch_tokens=64)),
    "mixture": (
        Shape(tokens=True, embd=512, experts=8, experts_used=2, ff=1_024, expert_ff=1_024),
        Ask(slots=1),
    ),
    "windows": (
        Shape(
            arch="gemma3", tokens=True, embd=512, head_dim=128, layers=6, window=128, tied=True
        ),
        Ask(slots=2, context_tokens=8_192),
    ),
    "recurrent": (
        Shape(arch="mamba", tokens=True, heads=1, kv_heads=0, layers=3, inner=512),
        Ask(context_tokens=2_048),
    ),
    "qwen": (Shape(arch="qwen2", tokens=True, embd=512), Ask(slots=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_it_is_what_llama_cpp_allocates(tmp_path: Path, name: str) -> None:
    shaped, ask = CASES[name]
    path = write_shaped_gguf(tmp_path / "m.gguf", shaped, "F16")
    shape, measured = shape_of(path), await measure(path, ask)
    kept = sum(kv_bytes(layer.memory, ask) for layer in shape.layers)
    compute = compute_bytes(shape, ask)
    print(
        f"{name}: weights {shape.weights_bytes / measured.weights - 1:+.1%}, "
        f"KV {kept / measured.kv - 1:+.1%}, compute {compute / measured.compute - 1:+.1%}"
    )
    assert shape.weights_bytes == pytest.approx(measured.weights, rel=0.01)
    assert kept == pytest.approx(measured.kv, abs=_MIB / 100)
    assert 1.0 <= compute / measured.compute <= 1.35


async def test_the_process_takes_no_more_than_was_said(tmp_path: Path) -> None:
    """A vocabulary of 64,000 and weights that are read as a whole, so that they are resident."""
    shaped = Shape(tokens=True, vocab=64_000, layers=4, embd=512, ff=2_048)
    ask = Ask(slots=2, prompt_cache_bytes=0)
    path = write_shaped_gguf(tmp_path / "m.gguf", shaped, "F16")
    row = fit_row("F16", shape_of(path), ROOMY, ask, FitConfig())
    measured = await measure(path, ask)
    print(f"total {row.total_bytes / measured.resident - 1:+.1%} of the resident set")
    assert 1.0 <= row.total_bytes / measured.resident < 1.35


async def test_a_model_with_real_weights_is_no_exception(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", n_layer=3)
    ask = Ask(slots=1, context_tokens=2_048)
    shape, measured = shape_of(path), await measure(path, ask)
    assert shape.weights_bytes == pytest.approx(measured.weights, rel=0.01)
    assert sum(kv_bytes(layer.memory, ask) for layer in shape.layers) == measured.kv
