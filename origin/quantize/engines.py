"""The engines that can quantize a file, best first, behind one small protocol."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from origin.quantize import child
from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import QUANTIZATIONS, Quantization
from origin.quantize.process import ProcessLimits, run_process

Progress = Callable[[int, int], None]
"""Told what is done and the total, in bytes."""
_LEGACY = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"})
_ROOT = Path(__file__).resolve().parents[2]
"""Where ``origin`` is imported from."""
_TENSOR_LINE = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file to quantize. ``target`` does not exist, or may be written over."""

    source: Path
    target: Path
    quant: Quantization
    threads: int
    limits: ProcessLimits


class Engine(Protocol):
    """Something that quantizes whole files, in a process of its own."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def makes(self, quant: Quantization) -> bool:
        """Whether it is here and knows the type."""
        ...

    def run(self, task: Task, progress: Progress) -> None:
        """Write the target.

        Raises:
            NoEngineError: it cannot after all; another engine may.
            QuantizeError: it failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class LlamaQuantize:
    """llama.cpp's own program, ``llama-quantize``."""

    program: str = "llama-quantize"
    """A path, or a name to be found on PATH."""
    name: str = "llama-quantize"

    def makes(self, quant: Quantization) -> bool:
        return quant.name in QUANTIZATIONS and shutil.which(self.program) is not None

    def run(self, task: Task, progress: Progress) -> None:
        program = shutil.which(self.program)
        if program is None:
            raise NoEngineError(f"there is no {self.program} on PATH")
        size = task.source.stat().st_size
        # Absolute paths: none can be taken for an option.
        files = [str(task.source.resolve()), str(task.target.resolve())]
        argv = [program, *files, task.quant.name, str(task.threads)]

        def on_line(line: bytes) -> None:
            if found := _TENSOR_LINE.match(line):
                number, count = int(found[1]), int(found[2])
                progress(size * min(number, count) // max(count, 1), size)

        run_process(argv, limits=task.limits, on_line=on_line)


@dataclass(frozen=True, slots=True)
class ChildEngine:
    """What runs in ``origin.quantize.child``, where the modules it needs are installed."""

    name: str
    worker: child.Worker
    modules: tuple[str, ...]
    types: frozenset[str]

    def makes(self, quant: Quantization) -> bool:
        here = all(importlib.util.find_spec(module) is not None for module in self.modules)
        return here and quant.name in self.types

    def run(self, task: Task, progress: Progress) -> None:
        job = child.Job(
            worker=self.worker,
            source=str(task.source.resolve()),
            target=str(task.target.resolve()),
            quant=task.quant.name,
            threads=task.threads,
        )
        failure: list[child.Said] = []

        def on_line(line: bytes) -> None:
            said = child.read_said(line)
            if said is not None and said.error:
                failure.append(said)
            elif said is not None:
                progress(said.done, said.total)

        # Not the working directory: nothing there may shadow a module.
        start = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); " + _MAIN
        try:
            run_process(
                [sys.executable, "-P", "-c", start],
                first_line=msgspec.json.encode(job) + b"\n",
                limits=task.limits,
                on_line=on_line,
            )
        except QuantizeError as error:
            if not failure:
                raise
            kind = NoEngineError if failure[0].no_engine else QuantizeError
            raise kind(failure[0].error) from error


_MAIN = "from origin.quantize.child import main; sys.exit(main())"
OWN_MODULES = ("gguf", "numpy")
ENGINES: tuple[Engine, ...] = (
    LlamaQuantize(),
    ChildEngine("llama-cpp-python", "llama-cpp-python", ("llama_cpp",), frozenset(QUANTIZATIONS)),
    ChildEngine(
        "headwater with ggml", "ggml", (*OWN_MODULES, "xllamacpp"), frozenset(QUANTIZATIONS)
    ),
    ChildEngine("headwater with gguf", "gguf", OWN_MODULES, _LEGACY),
)
"""The reference first; then the same code in a wheel; then our writer, with ggml's code for the
blocks or with numpy's."""


def no_engine(quant: Quantization) -> NoEngineError:
    """The error that says what to install for ``quant``."""
    ways = ["put llama.cpp's llama-quantize on PATH", "pip install gguf xllamacpp"]
    if quant.name in _LEGACY:
        ways[1] = "pip install gguf"
    ways.append("pip install 'headwater[quantize]' (builds llama.cpp)")
    return NoEngineError(f"nothing here makes {quant.name}: {', or '.join(ways)}")
