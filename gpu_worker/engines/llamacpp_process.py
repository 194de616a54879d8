"""The child process that holds llama.cpp: ``python -m gpu_worker.engines.llamacpp_process``.

``xllamacpp.Server`` listens from its constructor on and cannot be stopped, and a hostile file may
crash it, so it lives alone here. It loads its libraries and waits: the settings come as one line of
JSON on stdin, perhaps much later; stdin then stays open, and its end means that the worker is gone.
One line of JSON on stdout says where the server listens, or why it does not. Imports nothing of the
worker, so it starts quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

import msgspec

MAX_SETTINGS_BYTES = 1024 * 1024
_LAST_WORDS_S = 0.1
_LIBRARIES = (
    "the engine's wheel cannot be loaded; it needs libgomp.so.1 (Debian: apt-get install "
    "libgomp1), and one for GPUs the libraries of CUDA"
)
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is told. ``context_tokens`` is for each slot."""

    model_path: str
    model_alias: str
    key: str
    parent_pid: int
    slots: int
    context_tokens: int
    threads: int
    gpu_layers: int
    batch_tokens: int
    prompt_cache_mib: int
    cache_prompt: bool
    warmup: bool
    embeddings: bool
    verbosity: int
    mmap: bool | None = None
    """Whether the file is mapped instead of read; None: llama.cpp's default."""


def main() -> int:
    """Load, say so, and serve until the worker closes stdin or dies."""
    _die_with_parent()
    answer = _take_stdout()
    # A crash must be known at once, not after gigabytes of core have been written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ImportError):
        import xllamacpp  # noqa: F401 - while nobody waits; what fails now is told below
    line = sys.stdin.buffer.readline(MAX_SETTINGS_BYTES)
    if not line:
        return 0  # it stood by and was not needed
    settings = msgspec.json.decode(line, type=Settings)
    _stay_with(settings.parent_pid)
    try:
        server = _serve(settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear it
        # llama.cpp logs from a thread of its own, and only there it says what was wrong.
        time.sleep(_LAST_WORDS_S)
        _say(answer, {"error": f"{type(error).__name__}: {error}"})
        return 1
    _say(answer, {"address": str(server.listening_address)})
    threading.Event().wait()
    return 0


def _serve(settings: Settings) -> Any:
    """The running server; it lives as long as it is referred to."""
    try:
        import xllamacpp  # the parent imports this module for its Settings only
    except ImportError as error:
        raise ImportError(f"{error} ({_LIBRARIES})") from error

    params = xllamacpp.CommonParams()
    params.model.path = settings.model_path
    params.model_alias = {settings.model_alias}
    params.api_keys = [settings.key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cors_origins = ""
    params.cors_credentials = False
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.offline = True
    params.verbosity = settings.verbosity
    params.warmup = settings.warmup
    if settings.mmap is not None:
        modes = xllamacpp.llama_load_mode
        params.load_mode = (
            modes.LLAMA_LOAD_MODE_MMAP if settings.mmap else modes.LLAMA_LOAD_MODE_NONE
        )
    params.n_parallel = settings.slots
    # llama.cpp divides the context among the slots as long as they do not share one cache.
    params.kv_unified = False
    params.n_ctx = settings.context_tokens * settings.slots
    params.n_batch = settings.batch_tokens
    params.n_ubatch = min(params.n_ubatch, settings.batch_tokens)
    params.n_gpu_layers = settings.gpu_layers
    # What fits was decided before; fitting again here would read the file twice.
    params.fit_params = False
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    # A connection occupies a thread, for up to a second after the worker has closed it.
    params.n_threads_http = 2 * settings.slots + 8
    if settings.embeddings:
        params.embedding = True
        # Of a causal model only the last token has seen the whole text. With MEAN llama.cpp of
        # 2026-10 fails an assertion while it reserves memory.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    params.cache_prompt = settings.cache_prompt
    params.cache_ram_mib = settings.prompt_cache_mib
    # An assistant message at the end is a turn, as in OpenAI's API, not the answer's beginning.
    params.prefill_assistant = False
    # Messages are answered as token ids are: what the model says is content, whatever it says.
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    return xllamacpp.Server(params)


def _take_stdout() -> BinaryIO:
    """Keep stdout for the answer alone; what a library prints there goes to the log."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def _say(answer: BinaryIO, line: dict[str, str]) -> None:
    answer.write(msgspec.json.encode(line) + b"\n")
    answer.close()


def _die_with_parent() -> None:
    """Leave no orphan: the kernel ends this process with its parent, by whatever means."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stay_with(parent_pid: int) -> None:
    """End when the worker ended before that was asked for; and, where the kernel does not do it,
    at the end of stdin."""
    if os.getppid() != parent_pid:
        os._exit(0)
    threading.Thread(target=_exit_at_end_of_stdin, name="lifeline", daemon=True).start()


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
