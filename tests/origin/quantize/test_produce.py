from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import QUANTIZATIONS
from origin.quantize.produce import Produced, Weights, produce, read_source
from tests.fakes import raw_gguf
from tests.fakes.quantizers import ScriptedEngine, quantize
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.errors import GGUFInvalidError

Q8, Q4 = QUANTIZATIONS["Q8_0"], QUANTIZATIONS["Q4_0"]


@pytest.fixture
def source(tmp_path: Path) -> Weights:
    return read_source(write_tiny_gguf(tmp_path / "tiny.gguf"))


def make(source: Weights, work: Path, *engines: ScriptedEngine) -> Produced:
    return produce(source, Q8, work, engines=engines)


def test_a_file_is_made_once_and_found_again(source: Weights, tmp_path: Path) -> None:
    engine, work = ScriptedEngine(), tmp_path / "work"
    told: list[tuple[str, int, int]] = []
    made = produce(source, Q8, work, engines=[engine], progress=lambda *a: told.append(a))
    assert (made.engine, made.reused, told) == ("scripted", False, [("quantize Q8_0", 1, 1)])
    assert 8.5 < made.weights.bits_per_weight < 9
    again = make(source, work, engine)
    assert again.reused
    assert again.weights == made.weights
    assert again.seconds == made.seconds
    assert engine.runs == ["Q8_0"]
    assert sorted(p.name for p in made.weights.file.parent.iterdir()) == [
        ".lock", "Q8_0.gguf", "Q8_0.json",
    ]  # fmt: skip


def test_another_source_another_type_another_engine_are_made_anew(
    source: Weights, tmp_path: Path
) -> None:
    engine, other, work = ScriptedEngine(), ScriptedEngine("other"), tmp_path / "work"
    make(source, work, engine)
    assert not produce(source, Q4, work, engines=[engine]).reused
    assert not make(source, work, other).reused
    changed = read_source(write_tiny_gguf(tmp_path / "tiny2.gguf", seed=1))
    assert not make(changed, work, engine).reused


@pytest.mark.parametrize("what", ["flip", "cut", "no record", "torn record"])
def test_a_file_that_is_not_what_it_was_is_made_again(
    source: Weights, tmp_path: Path, what: str
) -> None:
    engine, work = ScriptedEngine(), tmp_path / "work"
    file = make(source, work, engine).weights.file
    good = file.read_bytes()
    if what == "flip":
        file.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif what == "cut":
        os.truncate(file, len(good) // 2)
    elif what == "no record":
        file.with_suffix(".json").unlink()
    else:
        file.with_suffix(".json").write_bytes(b'{"engine":')
    assert not make(source, work, engine).reused
    assert file.read_bytes() == good


def test_a_failure_leaves_nothing(source: Weights, tmp_path: Path) -> None:
    engine = ScriptedEngine(error=QuantizeError("no memory"))
    with pytest.raises(QuantizeError, match="no memory"):
        make(source, tmp_path / "work", engine)
    assert [p.name for p in (tmp_path / "work").rglob("*") if p.is_file()] == [".lock"]


def test_the_next_engine_takes_over_only_where_one_is_absent(
    source: Weights, tmp_path: Path
) -> None:
    absent, good = ScriptedEngine("absent", absent=True), ScriptedEngine("good")
    assert make(source, tmp_path / "a", absent, good).engine == "good"
    failing = ScriptedEngine(error=QuantizeError("broken"))
    with pytest.raises(QuantizeError, match="broken"):
        make(source, tmp_path / "b", failing, good)
    with pytest.raises(NoEngineError, match="nothing here makes Q8_0"):
        make(source, tmp_path / "c", absent)
    with pytest.raises(NoEngineError, match="nothing here makes Q6_K"):
        produce(source, QUANTIZATIONS["Q6_K"], tmp_path, engines=[good])


def test_what_an_engine_writes_is_not_believed(source: Weights, tmp_path: Path) -> None:
    with pytest.raises(GGUFInvalidError):
        make(source, tmp_path / "work", ScriptedEngine(data=b"GGUF" + b"\xff" * 60))
    wrong = {
        "other tensors": write_tiny_gguf(tmp_path / "a.gguf", n_layer=1),
        "another 'general.name'": write_tiny_gguf(tmp_path / "b.gguf"),
        "something else": write_tiny_gguf(tmp_path / "c.gguf"),
    }
    for why, file in wrong.items():
        quantize(file, tmp_path / "out", "Q4_0" if why == "something else" else "Q8_0")
        data = (tmp_path / "out").read_bytes()
        if "name" in why:
            data = data.replace(b"tiny", b"tidy", 1)
        with pytest.raises(QuantizeError, match=why):
            make(source, tmp_path / "work", ScriptedEngine(data=data))


def test_who_comes_second_waits_and_finds_it(source: Weights, tmp_path: Path) -> None:
    engine, found = ScriptedEngine(), []
    threads = [
        threading.Thread(target=lambda: found.append(make(source, tmp_path / "work", engine)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made.reused for made in found) == [False, True, True]
    assert engine.runs == ["Q8_0"]


def test_only_whole_float_models_are_quantized(tmp_path: Path) -> None:
    quantize(write_tiny_gguf(tmp_path / "t.gguf"), tmp_path / "q.gguf", "Q8_0")
    with pytest.raises(QuantizeError, match="holds Q8_0 tensors"):
        read_source(tmp_path / "q.gguf")
    part = write_tiny_gguf(tmp_path / "m-00001-of-00002.gguf", metadata={"split.count": 2})
    with pytest.raises(QuantizeError, match="llama-gguf-split"):
        read_source(part)
    (tmp_path / "empty.gguf").write_bytes(raw_gguf.header())
    with pytest.raises(QuantizeError, match="has no F32"):
        read_source(tmp_path / "empty.gguf")
    with pytest.raises(QuantizeError, match="cannot read"):
        read_source(tmp_path / "absent.gguf")


def test_a_folder_that_cannot_be_written_is_told(source: Weights, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(QuantizeError, match="cannot work in"):
        make(source, tmp_path / "file", ScriptedEngine())
