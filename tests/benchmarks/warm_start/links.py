"""Links with a round trip before a tier, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from infra.edge_admin import TierAdmin
from tests.fakes.ports import free_port
from wire.errors import HeadwaterError


@contextmanager
def link(netloc: str, delay_s: float) -> Iterator[str]:
    """A link to ``host:port``; gives the URL of its near end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "tests.fakes.delay_proxy", str(port), netloc, str(delay_s)]
    process = subprocess.Popen(argv)
    try:
        _until_ready(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + 20.0
    with TierAdmin(url) as admin:
        while True:
            try:
                if not admin.why_not_ready():
                    return
            except HeadwaterError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
