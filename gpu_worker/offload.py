"""Whether an engine on this machine can use its GPUs.

An operator's own ``llama-server`` is built for them. The ``xllamacpp`` wheel exists with and
without a GPU's backend, and only it knows; it is asked in a process of its own, because loading it
may crash with a driver that it does not like.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

SERVER = "llama-server"
_QUESTION = (
    "import xllamacpp as x\n"
    "cpu = x.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU\n"
    "print(sum(device['type'] != cpu for device in x.get_device_info()))\n"
)


def engine_offloads(
    which: Callable[[str], str | None] = shutil.which,
    *,
    python: str = sys.executable,
    question: str = _QUESTION,
    timeout_s: float = 30.0,
) -> bool:
    """Whether a llama.cpp here can compute on a GPU. Blocking, for about a second."""
    if which(SERVER) is not None:
        return True
    try:
        done = subprocess.run(
            (python, "-P", "-c", question), capture_output=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    last = done.stdout.decode("ascii", "replace").strip().rpartition("\n")[2]
    return done.returncode == 0 and last.isdigit() and int(last) > 0
