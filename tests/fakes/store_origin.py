"""Origins in processes of their own, on a folder or on a bucket, that are killed and started again
by blocking tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.publishing import PublisherDesk, open_publisher
from infra.upkeep import UpkeepAdmin
from origin.config import OriginConfig
from origin.init import initialize
from origin.keys import PUBLISHER_KEY
from origin.stores.bucket import S3Config
from tests.fakes.fleet import eventually
from tests.fakes.headwater import ROOT, environment
from wire.http_client import BlockingClient
from wire.http_connection import Response


@dataclass(slots=True)
class Origin:
    """One origin: its folder with keys and token, its store, and the process where it runs.

    Args:
        store: a folder or a URL.
        environ: over this process's environment.
        keys: the folder of another origin, whose keys and token this one shares.
        settings: of ``[origin]``, as the environment names them.
    """

    folder: Path
    store: str
    s3: S3Config = field(default_factory=S3Config)
    environ: Mapping[str, str] = field(default_factory=dict)
    keys: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def home(self) -> Path:
        """Where keys and token are."""
        return self.keys or self.folder

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text()

    @property
    def publisher_key(self) -> Path:
        return self.home / "keys" / PUBLISHER_KEY

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text()

    def init(self) -> None:
        """As ``headwater origin init``. In a thread: the test may have a running loop."""
        self.folder.mkdir(exist_ok=True)
        config = OriginConfig(
            store=self.store,
            keys_dir=self.home / "keys",
            admin_token_file=self.token_file,
            s3=self.s3,
        )
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, initialize(config, "passphrase")).result()

    def start(self) -> None:
        """Start ``python -m origin``; returns when it answers."""
        self.folder.mkdir(exist_ok=True)
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        values = {
            "PORT": "0",
            "STORE": self.store,
            "KEYS_DIR": str(self.home / "keys"),
            "ADMIN_TOKEN_FILE": str(self.token_file),
            "READY_FILE": str(ready),
            **self.settings,
        }
        named = {f"HEADWATER_ORIGIN__{name}": value for name, value in values.items()}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "origin"],
                cwd=ROOT,
                env=environment({**self.environ, **named}),
                stdout=log,
                stderr=log,
            )
        eventually(lambda: ready.exists() or self._ended(), 40)
        assert ready.exists(), self.log
        self.url = json.loads(ready.read_text())["url"]

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def kill_in_passing(self) -> None:
        """SIGKILL, and whoever talks to it finds out by himself."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; it must end well."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log
        self.process = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    @contextmanager
    def desk(self) -> Iterator[PublisherDesk]:
        """The publisher's way in."""
        with open_publisher(self.url, self.token, self.publisher_key) as desk:
            yield desk

    @contextmanager
    def upkeep(self) -> Iterator[UpkeepAdmin]:
        """The upkeep's way in."""
        with UpkeepAdmin(self.url, self.token) as admin:
            yield admin

    def get(self, path: str) -> Response:
        """GET from the open paths."""
        client = BlockingClient(self.url)
        try:
            return client.get(path, limit_bytes=1 << 28)
        finally:
            client.close()

    def status(self) -> dict[str, Any]:
        """``/admin/status``."""
        with self.upkeep() as admin:
            return admin.status()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@contextmanager
def running(origin: Origin) -> Iterator[Origin]:
    """The origin, started; killed at the end where it still runs."""
    origin.start()
    try:
        yield origin
    finally:
        if origin.process is not None:
            origin.kill()
