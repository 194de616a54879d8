"""The child on its own. What it does for an engine is in test_llamacpp.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from gpu_worker.engines.llamacpp import ARGV
from gpu_worker.engines.llamacpp_process import Settings

SETTINGS = Settings(
    model_path="/nowhere/model.gguf",
    model_alias="m",
    key="key of the test",
    parent_pid=os.getpid(),
    slots=1,
    context_tokens=64,
    threads=1,
    gpu_layers=0,
    batch_tokens=64,
    prompt_cache_mib=0,
    cache_prompt=False,
    warmup=False,
    embeddings=False,
    verbosity=0,
)


def said(line: bytes, **environ: str) -> tuple[int, bytes]:
    """How a child ends after a line on its stdin, which stays open where there is one."""
    with subprocess.Popen(
        ARGV,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environ},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        child.stdin.flush()
        if not line:
            child.stdin.close()
        answer = child.stdout.read()
        return child.wait(50), answer


def test_a_child_that_is_not_needed_ends_in_silence() -> None:
    assert said(b"") == (0, b"")


def test_a_library_that_the_machine_lacks_is_named_with_its_package(tmp_path: Path) -> None:
    missing = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "xllamacpp.py").write_text(f"raise ImportError({missing!r})\n")
    status, answer = said(msgspec.json.encode(SETTINGS) + b"\n", PYTHONPATH=str(tmp_path))
    error = msgspec.json.decode(answer)["error"]
    assert status == 1
    assert missing in error
    assert "apt-get install libgomp1" in error


def test_a_model_that_is_not_there_is_an_error_and_not_a_crash() -> None:
    status, answer = said(msgspec.json.encode(SETTINGS) + b"\n")
    assert status == 1
    assert "error" in msgspec.json.decode(answer)
