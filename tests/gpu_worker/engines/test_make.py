"""gpu_worker.engines.make and config: from an order to an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_worker.child import end_life
from gpu_worker.engine import Engine, EngineError
from gpu_worker.engines.choose import EngineKind, Machine, ModelForm, NoEngineError
from gpu_worker.engines.config import EngineConfig
from gpu_worker.engines.llama_server import LlamaServer, LlamaServerConfig
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.engines.make import build, form_of, look_at_machine, make_engine, make_standby
from gpu_worker.engines.openai_server import OpenAIServer
from gpu_worker.engines.vllm import Vllm, VllmConfig
from gpu_worker.order import EngineOrder
from gpu_worker.supervisor import SupervisorConfig
from tests.fakes.programs import vllm_model

HERE = Machine(llamacpp=True, vllm=True)


def order(path: Path, **more: int | bool) -> EngineOrder:
    return EngineOrder(path=path, model="chat", revision="a" * 64, **more)  # type: ignore[arg-type]


async def made(config: EngineConfig, wanted: EngineOrder, machine: Machine = HERE) -> Engine:
    engine = make_engine(config, SupervisorConfig(), wanted, machine=machine)
    await engine.aclose()
    assert (engine.model, engine.revision) == ("chat", "a" * 64)
    return engine


@pytest.mark.parametrize("kind", ["llamacpp", "llama-server", "vllm"])
async def test_what_becomes_of_it_is_counted_where_the_order_says(
    tmp_path: Path, kind: EngineKind
) -> None:
    wanted, missing = order(tmp_path / "none.gguf"), str(tmp_path / "none")
    config = EngineConfig(
        server=LlamaServerConfig(program=missing), vllm=VllmConfig(program=missing)
    )
    engine = build(kind, config, SupervisorConfig(), wanted)
    with pytest.raises(EngineError):
        await engine.start()
    assert engine.dead.done()
    assert wanted.tally.endings.total() >= 1


async def test_a_file_is_llama_cpps_and_a_folder_vllms(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.touch()
    folder = vllm_model(tmp_path / "folder", gguf)
    assert type(await made(EngineConfig(), order(gguf))) is LlamaCpp
    assert type(await made(EngineConfig(), order(folder))) is Vllm
    server = Machine(llama_server=True)
    assert type(await made(EngineConfig(), order(gguf), server)) is LlamaServer
    assert type(await made(EngineConfig(kind="openai"), order(tmp_path))) is OpenAIServer
    with pytest.raises(NoEngineError):
        await made(EngineConfig(kind="vllm"), order(gguf))


async def test_what_was_decided_for_the_order_goes_before_the_configuration(
    tmp_path: Path,
) -> None:
    config = EngineConfig(gpu_layers=9, context_tokens=2_048, mmap=True)
    server = Machine(llama_server=True)

    async def told(wanted: EngineOrder) -> tuple[str, str, bool]:
        engine = make_engine(config, SupervisorConfig(), wanted, machine=server)
        assert isinstance(engine, LlamaServer)
        argv = engine.process.launch().argv
        await engine.aclose()
        layers, context = (argv[argv.index(n) + 1] for n in ("--gpu-layers", "--ctx-size"))
        return layers, context, "--no-mmap" in argv

    path = tmp_path / "m.gguf"
    assert await told(order(path)) == ("9", str(4 * 2_048), False)
    assert await told(order(path, gpu_layers=0, context_tokens=512, mmap=False)) == (
        "0",
        str(4 * 512),
        True,
    )


def test_a_folders_quantization_is_read_from_its_config(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.touch()
    assert form_of(gguf) == ModelForm(format="gguf")
    folder = vllm_model(tmp_path / "folder", gguf, quantization="AWQ")
    assert form_of(folder) == ModelForm(format="safetensors", quantization="awq")
    for text in ("", "[]", json.dumps({"quantization_config": 7})):
        (folder / "config.json").write_text(text)
        assert form_of(folder) == ModelForm(format="safetensors")


def test_what_is_installed_is_looked_for_by_its_name(tmp_path: Path) -> None:
    for name in ("my-server", "my-vllm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / "my-server").chmod(0o755)
    found = look_at_machine(
        EngineConfig(
            server=LlamaServerConfig(program=str(tmp_path / "my-server")),
            vllm=VllmConfig(program=str(tmp_path / "my-vllm")),
        )
    )
    assert (found.llamacpp, found.llama_server, found.vllm) == (True, True, False)


@pytest.mark.parametrize(
    ("config", "machine", "stands_by"),
    [
        (EngineConfig(), Machine(llamacpp=True), True),
        (EngineConfig(kind="llamacpp"), Machine(llamacpp=True, llama_server=True, gpu=True), True),
        (EngineConfig(), Machine(llamacpp=True, llama_server=True, gpu=True), False),
        (EngineConfig(), Machine(llama_server=True), False),
        (EngineConfig(kind="openai"), Machine(llamacpp=True), False),
        (EngineConfig(kind="vllm"), Machine(llamacpp=True, vllm=True), False),
        (EngineConfig(), Machine(), False),
    ],
)
async def test_a_child_stands_by_only_where_one_of_ours_loads_the_files(
    config: EngineConfig, machine: Machine, stands_by: bool
) -> None:
    standby = make_standby(config, SupervisorConfig(), machine)
    assert (standby is not None) == stands_by


async def test_the_child_that_stands_by_is_the_one_that_is_launched(tmp_path: Path) -> None:
    standby = make_standby(EngineConfig(), SupervisorConfig(), HERE)
    assert standby is not None
    engine = make_engine(
        EngineConfig(),
        SupervisorConfig(),
        order(tmp_path / "m.gguf"),
        machine=HERE,
        standby=standby,
    )
    assert isinstance(engine, LlamaCpp)
    standby.prepare()
    life = await standby.take(engine.process.launch())
    assert life is not None, "the launch is of something else than what stands by"
    await end_life(life, SupervisorConfig().stop_grace_s)
    await engine.aclose()
