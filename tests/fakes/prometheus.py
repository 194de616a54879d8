"""The real Prometheus as a receiver of remote write, that can be killed and started again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from infra.ports import HeldPort

_READY_S = 60.0


class Prometheus:
    """One server; its samples are in ``folder`` and outlive its process.

    Args:
        config: its configuration's text.
    """

    def __init__(self, folder: Path, config: str = "{}") -> None:
        self._folder = folder
        self._held = HeldPort()
        self._port = self._held.number
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        (folder / "prometheus.yml").write_text(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    def start(self) -> None:
        """Returns when it answers."""
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    program(),
                    "--web.enable-remote-write-receiver",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + _READY_S
        while not self._ready():
            if time.monotonic() > end or self._process.poll() is not None:
                raise AssertionError((self._folder / "log").read_text())
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Prometheus:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._held.close()

    def samples(self, selector: str) -> list[tuple[float, float]]:
        """Times and values of the one series of a selector, over the last hour."""
        found = self._get("/api/v1/query", query=f"{selector}[1h]")["data"]["result"]
        if not found:
            return []
        assert len(found) == 1, [one["metric"] for one in found]
        return [(float(time_s), float(value)) for time_s, value in found[0]["values"]]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression says now. Fails, with the server's words, where it is none."""
        result: list[dict[str, Any]] = self._get("/api/v1/query", query=expression)["data"][
            "result"
        ]
        return result

    def count(self, selector: str) -> int:
        """All samples of all series of a selector, over the last hour; stale markers are none."""
        found = self._get("/api/v1/query", query=f"{selector}[1h]")["data"]["result"]
        return sum(len(one["values"]) for one in found)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=20):
                return True
        except OSError:
            return False

    def _get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error


def program() -> str:
    """Where it is; skips the test that needs it where it is not installed."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed (apt install prometheus)")
    return found
