"""Which engine loads which files: one pure function, and all its rules.

* A server that runs already is used only where the configuration says so.
* GGUF is llama.cpp's. Where there is a GPU and a ``llama-server`` on the PATH, that is taken: it is
  the operator's own build, with the GPU's backend, while the wheel may know only the CPU. Else the
  wheel, else the program.
* safetensors are vLLM's. AWQ, GPTQ and their like need a GPU.
* What the configuration names is taken or refused, never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpu_worker.errors import LoadFailedError

EngineKind = Literal["llamacpp", "llama-server", "vllm", "openai"]
WantedKind = Literal["auto", "llamacpp", "llama-server", "vllm", "openai"]
Format = Literal["gguf", "safetensors"]
GPU_QUANTIZATIONS = frozenset({"awq", "gptq", "awq_marlin", "gptq_marlin", "bitsandbytes"})

_INSTALL: dict[EngineKind, str] = {
    "llamacpp": "pip install 'headwater[worker]'",
    "llama-server": "put llama.cpp's llama-server on the PATH, or set engine.server.program",
    "vllm": "pip install vllm, or set engine.vllm.program",
}
_LOADS: dict[EngineKind, Format] = {
    "llamacpp": "gguf",
    "llama-server": "gguf",
    "vllm": "safetensors",
}


class NoEngineError(LoadFailedError):
    """No engine can load the files here; says what to install, or what to publish."""

    code = "no_engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForm:
    """What kind of files a model is."""

    format: Format
    quantization: str = ""
    """As ``config.json`` names it (``awq``); empty for GGUF, whose variants say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    llamacpp: bool = False
    """The ``xllamacpp`` wheel."""
    llama_server: bool = False
    vllm: bool = False
    gpu: bool = False
    """One that an engine can compute on."""

    def has(self, kind: EngineKind) -> bool:
        """Whether this engine could be started."""
        found = {"llamacpp": self.llamacpp, "llama-server": self.llama_server, "vllm": self.vllm}
        return found.get(kind, True)


def choose(wanted: WantedKind, form: ModelForm, machine: Machine) -> EngineKind:
    """The engine for these files on this machine.

    Raises:
        NoEngineError: there is none.
    """
    if wanted == "openai":
        return wanted
    kind = _best(form, machine) if wanted == "auto" else wanted
    if _LOADS[kind] != form.format:
        raise NoEngineError(
            f"{kind} does not load {form.format}; it loads {_LOADS[kind]}. "
            'Set engine.kind = "auto", or publish the model in that form'
        )
    if not machine.has(kind):
        others = " or ".join(_INSTALL[k] for k in _LOADS if _LOADS[k] == form.format and k != kind)
        hint = f", or {others}" if others and wanted == "auto" else ""
        raise NoEngineError(f"no engine for {form.format} is installed: {_INSTALL[kind]}{hint}")
    if wanted == "auto" and form.quantization in GPU_QUANTIZATIONS and not machine.gpu:
        raise NoEngineError(
            f"{form.quantization} needs a GPU and this machine has none; publish a GGUF as well"
        )
    return kind


def _best(form: ModelForm, machine: Machine) -> EngineKind:
    if form.format == "safetensors":
        return "vllm"
    if machine.llama_server and (machine.gpu or not machine.llamacpp):
        return "llama-server"
    return "llamacpp"
