"""The child process in which a file is quantized: ``python -m origin.quantize.child``.

The job comes as one line of JSON on stdin; stdin then stays open, and its end means that the
publisher is gone. What it says on stdout are lines that begin with ``MARK``: progress, or why it
failed; any other line is a library's.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import Quantization, quantizations
from wire.errors import HeadwaterError

MARK = b"\x1e"
MAX_JOB_BYTES = 64 * 1024
Worker = Literal["ggml", "gguf", "llama-cpp-python"]
_STEPS = 200
"""At most so many lines of progress."""


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is told. The target is a new file."""

    worker: Worker
    source: str
    target: str
    quant: str
    threads: int


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the child says: bytes done and to do, or an error."""

    done: int = 0
    total: int = 0
    error: str = ""
    no_engine: bool = False


def main() -> int:
    """Do the job that stdin names."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(MAX_JOB_BYTES), type=Job)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    threading.Thread(target=_exit_at_end_of_stdin, name="lifeline", daemon=True).start()
    # A crash must be known at once, not after gigabytes of core have been written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _work(job, quantizations([job.quant])[0], out)
    except HeadwaterError as error:
        _say(out, Said(error=error.message, no_engine=isinstance(error, NoEngineError)))
        return 1
    except OSError as error:
        _say(out, Said(error=f"{error.strerror or error}"))
        return 1
    return 0


def _work(job: Job, quant: Quantization, out: BinaryIO) -> None:
    if job.worker == "llama-cpp-python":
        from origin.quantize.llama_cpp_python import quantize_file

        quantize_file(Path(job.source), Path(job.target), quant, job.threads)
        return
    # Both need numpy, which not every publisher has.
    from origin.quantize.rows import GgmlRows, GgufRows
    from origin.quantize.writer import write_quantized

    rows = GgmlRows() if job.worker == "ggml" else GgufRows()
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done == total or done - told > total // _STEPS:
            told = done
            _say(out, Said(done=done, total=total))

    with Path(job.target).open("wb") as target:
        write_quantized(
            Path(job.source), target, quant, rows, threads=job.threads, progress=progress
        )


def read_said(line: bytes) -> Said | None:
    """What a line of the child's output means; None where it is a library's.

    Raises:
        QuantizeError: it is malformed.
    """
    if not line.startswith(MARK):
        return None
    try:
        return msgspec.json.decode(line[len(MARK) :], type=Said)
    except msgspec.DecodeError as error:
        raise QuantizeError(f"the quantizing process sent a malformed line: {error}") from error


def _say(out: BinaryIO, said: Said) -> None:
    out.write(MARK + msgspec.json.encode(said) + b"\n")


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
