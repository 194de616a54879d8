"""What people script today: curl, sha256sum, llama.cpp, first token. The engine is told just what
the worker tells its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.engines.llamacpp import LlamaCppConfig, default_threads
from tests.benchmarks.warm_start.model import QUESTION

_LOAD = """
import json, os, sys, urllib.request
import xllamacpp
told = json.loads(sys.argv[2])
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.ui = False
params.offline = True
params.warmup = told["warmup"]
params.n_parallel = told["slots"]
params.kv_unified = False
params.n_ctx = told["slots"] * told["context"]
params.n_batch = told["batch"]
params.n_ubatch = min(params.n_ubatch, told["batch"])
params.fit_params = False
params.cpuparams.n_threads = told["threads"]
params.cpuparams_batch.n_threads = told["threads"]
params.cache_ram_mib = told["cache"]
if told["mmap"] is not None:
    modes = xllamacpp.llama_load_mode
    params.load_mode = modes.LLAMA_LOAD_MODE_MMAP if told["mmap"] else modes.LLAMA_LOAD_MODE_NONE
server = xllamacpp.Server(params)
request = urllib.request.Request(
    server.listening_address + "/completion",
    data=json.dumps({"prompt": told["prompt"], "n_predict": 1}).encode(),
    headers={"Content-Type": "application/json"})
urllib.request.urlopen(request).read()
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Script:
    """Seconds of each step, and CPU-seconds of those without and with the checksum."""

    curl_s: float
    sha256_s: float
    load_s: float
    cpu_s: float
    sha256_cpu_s: float

    @property
    def unverified_s(self) -> float:
        return self.curl_s + self.load_s

    @property
    def verified_s(self) -> float:
        return self.curl_s + self.sha256_s + self.load_s


def script(url: str, target: Path) -> Script:
    """Run it. The file is removed before, not after: its pages are not given back in between."""
    target.unlink(missing_ok=True)
    os.sync()
    curl_s, curl_cpu_s = _timed(["curl", "-sf", "-o", str(target), url])
    sha256_s, sha256_cpu_s = _timed(["sha256sum", str(target)])
    load_s, load_cpu_s = first_token(target)
    return Script(curl_s, sha256_s, load_s, curl_cpu_s + load_cpu_s, sha256_cpu_s)


def first_token(file: Path, *, mmap: bool | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a fresh process that loads a file and gives one token."""
    config = LlamaCppConfig()
    told = {
        "prompt": QUESTION,
        "slots": config.slots,
        "context": config.context_tokens,
        "batch": config.batch_tokens,
        "cache": config.prompt_cache_mib,
        "threads": config.threads or default_threads(),
        "warmup": config.warmup,
        "mmap": mmap,
    }
    return _timed([sys.executable, "-c", _LOAD, str(file), json.dumps(told)])


def _timed(argv: Sequence[str]) -> tuple[float, float]:
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(argv))
    return wall_s, usage.ru_utime + usage.ru_stime
