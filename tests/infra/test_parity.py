from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from gpu_worker.engine import EngineStartError
from infra import demo_models
from infra.parity import EngineOracle, engine_is_installed
from origin.bundle import build_bundle
from tests.fakes.tiny_gguf import CHATML, write_tiny_gguf
from wire.gguf import read_gguf


def test_the_engine_is_installed_here() -> None:
    assert engine_is_installed()


def test_the_oracle_reads_control_tokens_and_adds_none() -> None:
    with EngineOracle(demo_models.path("edge-small-r1"), "edge-small") as oracle:
        plain, control = oracle("hello"), oracle("<|im_end|>")
        assert len(plain) >= 1
        assert len(control) == 1
        assert oracle("<|im_end|>hello") == [*control, *oracle("hello")]


def test_the_oracle_renders_as_the_template_says_or_not_at_all(tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'tool' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    path = write_tiny_gguf(tmp_path / "tiny.gguf", chat_template=template)
    with EngineOracle(path, "tiny") as oracle:
        assert oracle.render([("user", "hi")]) == (
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        )
        assert oracle.render([("tool", "21 °C"), ("user", "hi")]) is None


def test_the_oracle_confirms_a_whole_bundle(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", pre="llama-bpe")
    with path.open("rb") as stream:
        gguf = read_gguf(stream, path.stat().st_size)
    with EngineOracle(path, "tiny") as oracle:
        card = build_bundle(gguf, oracle=oracle, render=oracle.render).card
    assert (card.tokenizer, card.template, card.reasons) == ("exact", "exact", ())


def test_an_oracle_that_is_not_asked_starts_nothing(tmp_path: Path) -> None:
    children = psutil.Process().children()
    with EngineOracle(tmp_path / "absent.gguf", "chat"):
        assert psutil.Process().children() == children


def test_a_file_that_the_engine_cannot_load_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    with (
        EngineOracle(tmp_path / "bad.gguf", "chat") as oracle,
        pytest.raises(EngineStartError, match="chat"),
    ):
        oracle("hello")
