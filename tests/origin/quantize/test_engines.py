from __future__ import annotations

import re
from pathlib import Path

import pytest

from origin.quantize.engines import ENGINES, ChildEngine, Engine, LlamaQuantize, Task, no_engine
from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import QUANTIZATIONS
from origin.quantize.process import ProcessLimits
from tests.fakes.quantizers import write_package, write_program
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.gguf import read_gguf

PROGRAM, PACKAGE, GGML, GGUF = ENGINES
Told = list[tuple[int, int]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf", n_embd=256)


def run(engine: Engine, source: Path, quant: str, *, timeout_s: float = 60) -> tuple[Path, Told]:
    told: Told = []
    target = source.with_name(f"{quant}.part")
    limits = ProcessLimits(timeout_s=timeout_s)
    task = Task(source=source, target=target, quant=QUANTIZATIONS[quant], threads=2, limits=limits)
    engine.run(task, lambda done, total: told.append((done, total)))
    return target, told


def kinds(file: Path) -> set[str]:
    with file.open("rb") as stream:
        return {t.type.name for t in read_gguf(stream, file.stat().st_size).tensors}


@pytest.mark.parametrize(
    ("engine", "quant", "expected"),
    [
        (GGML, "Q4_K_M", {"F32", "Q4_K", "Q6_K"}),
        (GGML, "Q4_0", {"F32", "Q4_0", "Q6_K"}),
        (GGUF, "Q4_0", {"F32", "Q4_0", "Q8_0"}),
        (GGUF, "Q8_0", {"F32", "Q8_0"}),
    ],
)
def test_our_own_writer_runs_in_a_child(
    source: Path, engine: Engine, quant: str, expected: set[str]
) -> None:
    assert engine.makes(QUANTIZATIONS[quant])
    target, told = run(engine, source, quant)
    assert kinds(target) == expected
    assert told[-1] == (target.stat().st_size, target.stat().st_size)


def test_both_ways_of_our_own_write_the_same_q8(source: Path) -> None:
    one = run(GGML, source, "Q8_0")[0].read_bytes()
    assert one == run(GGUF, source, "Q8_0")[0].read_bytes()


def test_numpy_makes_no_k_quants() -> None:
    assert not GGUF.makes(QUANTIZATIONS["Q4_K_M"])


def test_a_failure_in_the_child_says_why(source: Path) -> None:
    source.write_bytes(b"GGUF" + b"\xff" * 32)
    with pytest.raises(QuantizeError, match="version"):
        run(GGUF, source, "Q8_0")
    with pytest.raises(QuantizeError, match="No such file"):
        run(GGUF, source.with_name("absent"), "Q8_0")


def test_llama_quantize_is_found_on_the_path(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not PROGRAM.makes(QUANTIZATIONS["Q8_0"])
    with pytest.raises(NoEngineError):
        run(PROGRAM, source, "Q8_0")
    write_program(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert PROGRAM.makes(QUANTIZATIONS["Q8_0"])
    target, told = run(PROGRAM, source, "Q8_0")
    assert kinds(target) == {"F32", "Q8_0"}
    size = source.stat().st_size
    assert told == [(size // 2, size), (size, size)]


def test_llama_quantize_that_fails_is_told(source: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path)
    source.write_bytes(b"no model")
    with pytest.raises(QuantizeError, match=r"llama-quantize failed \(1\).*not a GGUF file"):
        run(LlamaQuantize(str(program)), source, "Q8_0")


def test_llama_cpp_python_is_called_as_it_documents(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not PACKAGE.makes(QUANTIZATIONS["Q4_0"])
    with pytest.raises(NoEngineError, match="llama_cpp"):
        run(PACKAGE, source, "Q4_0")
    monkeypatch.setenv("PYTHONPATH", str(write_package(tmp_path)))
    assert kinds(run(PACKAGE, source, "Q4_0")[0]) == {"F32", "Q4_0", "Q8_0"}
    with pytest.raises(QuantizeError, match=r"refuse\.gguf \(status 1\)"):
        run(PACKAGE, source.rename(tmp_path / "refuse.gguf"), "Q4_0")
    with pytest.raises(QuantizeError, match="killed by SIGABRT"):
        run(PACKAGE, (tmp_path / "refuse.gguf").rename(tmp_path / "crash.gguf"), "Q4_0")


def test_a_wheel_without_the_function_is_no_engine(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NoEngineError, match="xllamacpp gives no ggml_quantize_chunk"):
        run(GGML, source, "Q4_K_M")


def test_an_engine_whose_modules_are_missing_makes_nothing() -> None:
    engine = ChildEngine("none", "gguf", ("gguf", "no_such_module"), frozenset({"Q8_0"}))
    assert not engine.makes(QUANTIZATIONS["Q8_0"])


def test_without_an_engine_it_is_told_what_to_install() -> None:
    for name, ways in (("Q4_K_M", "pip install gguf xllamacpp,"), ("Q8_0", "pip install gguf,")):
        message = no_engine(QUANTIZATIONS[name]).message
        assert re.search(f"makes {name}: .*llama-quantize on PATH, or {ways}", message)
