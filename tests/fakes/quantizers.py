"""Stand-ins for engines that are not installed: they write real quantized files, slowly told.

``llama-quantize`` is a program with its command line and its output; ``llama_cpp`` is a package
with the documented functions of llama-cpp-python. Both call our own writer with numpy's code.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from origin.quantize.engines import Progress, Task
from origin.quantize.errors import NoEngineError
from origin.quantize.kinds import QUANTIZATIONS, Quantization
from origin.quantize.rows import GgufRows
from origin.quantize.writer import write_quantized

_ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(_ROOT)!r})
from pathlib import Path
from tests.fakes.quantizers import quantize
source, target, name, threads = sys.argv[1:]
assert Path(source).is_absolute() and Path(target).is_absolute() and int(threads) > 0
print("main: quantizing", flush=True)
print("[   1/   2]   token_embd.weight", flush=True)
quantize(Path(source), Path(target), name)
print("[   2/   2]   output_norm.weight", flush=True)
"""

_PACKAGE = f"""
import ctypes, os, sys
sys.path.insert(0, {str(_ROOT)!r})

class llama_model_quantize_params(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int)]

def llama_model_quantize_default_params():
    return llama_model_quantize_params(0, 9)

def llama_model_quantize(fname_inp, fname_out, params, /):
    from pathlib import Path
    from origin.quantize.kinds import QUANTIZATIONS
    from tests.fakes.quantizers import quantize
    given = params._obj
    assert isinstance(fname_inp, bytes) and isinstance(fname_out, bytes) and given.nthread > 0
    if "crash" in os.fsdecode(fname_inp):
        os.abort()
    if "refuse" in os.fsdecode(fname_inp):
        print("llama_model_quantize: failed", file=sys.stderr)
        return 1
    name = next(q.name for q in QUANTIZATIONS.values() if q.file_type == given.ftype)
    quantize(Path(os.fsdecode(fname_inp)), Path(os.fsdecode(fname_out)), name)
    return 0
"""


def quantize(source: Path, target: Path, name: str) -> None:
    """What the stand-ins do."""
    with target.open("wb") as stream:
        write_quantized(
            source, stream, QUANTIZATIONS[name], GgufRows(), threads=1, progress=lambda *_: None
        )


def write_program(folder: Path) -> Path:
    """A ``llama-quantize`` in ``folder``."""
    program = folder / "llama-quantize"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    return program


def write_package(folder: Path) -> Path:
    """A ``llama_cpp`` in ``folder``, which goes on the path of modules."""
    (folder / "llama_cpp.py").write_text(_PACKAGE)
    return folder


@dataclass
class ScriptedEngine:
    """An engine in this process that writes what it is told to, and counts."""

    name: str = "scripted"
    data: bytes | None = None
    """Written as it is; None: the source, quantized."""
    absent: bool = False
    error: Exception | None = None
    runs: list[str] = field(default_factory=list)

    def makes(self, quant: Quantization) -> bool:
        return quant.name != "Q6_K"

    def run(self, task: Task, progress: Progress) -> None:
        self.runs.append(task.quant.name)
        if self.absent:
            raise NoEngineError("not here after all")
        if self.data is None:
            quantize(task.source, task.target, task.quant.name)
        else:
            task.target.write_bytes(self.data)
        if self.error is not None:
            raise self.error
        progress(1, 1)
