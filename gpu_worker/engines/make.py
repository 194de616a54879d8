"""Makes the engine that an order asks for: looks at files and machine, then asks ``choose``."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from gpu_worker.engine import Engine
from gpu_worker.engines.choose import EngineKind, Machine, ModelForm, NoEngineError, choose
from gpu_worker.engines.config import EngineConfig
from gpu_worker.engines.llama_server import LlamaServer
from gpu_worker.engines.llamacpp import ARGV, ENVIRON, LlamaCpp
from gpu_worker.engines.openai_server import OpenAIServer
from gpu_worker.engines.vllm import Vllm
from gpu_worker.order import EngineOrder
from gpu_worker.standby import Standby
from gpu_worker.supervisor import SupervisorConfig

MAX_CONFIG_BYTES = 4 * 1024 * 1024
_GPU_DEVICES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")


class _Quantization(msgspec.Struct, frozen=True):
    quant_method: str = ""


class _ModelConfig(msgspec.Struct, frozen=True):
    """What is read of a model's ``config.json``."""

    quantization_config: _Quantization = _Quantization()


def make_engine(
    config: EngineConfig,
    supervisor: SupervisorConfig,
    order: EngineOrder,
    *,
    machine: Machine | None = None,
    standby: Standby | None = None,
) -> Engine:
    """The engine, not started.

    Args:
        standby: where a child of llama.cpp's may wait that has started already.
        machine: as :func:`look_at_machine` where None.

    Raises:
        NoEngineError: none here can load the files.
    """
    if config.kind == "openai":
        kind: EngineKind = "openai"
    else:
        kind = choose(config.kind, form_of(order.path), machine or look_at_machine(config))
    return build(kind, _fitted(config, order), supervisor, order, standby)


def make_standby(
    config: EngineConfig, supervisor: SupervisorConfig, machine: Machine | None = None
) -> Standby | None:
    """A place for a child that starts before its weights are here; None where the engine for GGUF
    files is no child of that kind."""
    try:
        kind = choose(config.kind, ModelForm(format="gguf"), machine or look_at_machine(config))
    except NoEngineError:
        return None
    return Standby(ARGV, ENVIRON, supervisor) if kind == "llamacpp" else None


def build(
    kind: EngineKind,
    config: EngineConfig,
    supervisor: SupervisorConfig,
    order: EngineOrder,
    standby: Standby | None = None,
) -> Engine:
    """An engine of this kind."""
    who: dict[str, Any] = {"model": order.model, "revision": order.revision}
    who["tally"] = order.tally
    child = {**who, "config": config, "supervisor": supervisor}
    if kind == "openai":
        return OpenAIServer(**who, config=config, openai=config.openai)
    if kind == "vllm":
        return Vllm(order.path, **child, vllm=config.vllm)
    if kind == "llama-server":
        return LlamaServer(order.path, **child, server=config.server)
    return LlamaCpp(order.path, **child, standby=standby)


def form_of(path: Path) -> ModelForm:
    """What kind of model a path that was checked (``gpu_worker.check``) leads to."""
    if not path.is_dir():
        return ModelForm(format="gguf")
    try:
        with (path / "config.json").open("rb") as stream:
            found = msgspec.json.decode(stream.read(MAX_CONFIG_BYTES), type=_ModelConfig)
    except (OSError, msgspec.DecodeError, RecursionError):
        found = _ModelConfig()
    method = found.quantization_config.quant_method.lower()
    return ModelForm(format="safetensors", quantization=method)


def look_at_machine(config: EngineConfig) -> Machine:
    """What is installed, without starting or importing any of it."""
    return Machine(
        llamacpp=find_spec("xllamacpp") is not None,
        llama_server=shutil.which(config.server.program) is not None,
        vllm=shutil.which(config.vllm.program) is not None,
        gpu=sys.platform == "darwin" or any(Path(device).exists() for device in _GPU_DEVICES),
    )


def _fitted(config: EngineConfig, order: EngineOrder) -> EngineConfig:
    """The configuration with what was decided for this order."""
    return replace(
        config,
        gpu_layers=order.gpu_layers if order.gpu_layers >= 0 else config.gpu_layers,
        context_tokens=order.context_tokens or config.context_tokens,
        mmap=config.mmap if order.mmap is None else order.mmap,
    )
