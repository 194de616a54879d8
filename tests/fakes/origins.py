"""Whole origins in processes of their own, for tests that have no event loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from origin.config import OriginConfig
from origin.init import initialize
from tests.fakes.fleet import eventually
from tests.fakes.origin_home import REPOSITORY_ROOT, Home


@dataclass(frozen=True, slots=True)
class RunningOrigin:
    """A running origin and its folder."""

    home: Home
    url: str

    def place(self) -> list[str]:
        """What points a ``headwater`` command at it."""
        config = self.home.config
        return [
            f"--origin={self.url}",
            f"--token-file={config.admin_token_file}",
            f"--publisher-key={config.keys_dir / 'publisher.key'}",
        ]


@contextmanager
def running_origin(folder: Path) -> Iterator[RunningOrigin]:
    """A new origin, until the block ends."""
    folder.mkdir(parents=True)
    config = OriginConfig(
        port=0,
        store=str(folder / "store"),
        keys_dir=folder / "keys",
        admin_token_file=folder / "token",
        pull_tokens_file=folder / "pull-tokens.json",
        ready_file=folder / "ready.json",
    )
    asyncio.run(initialize(config, "correct horse"))
    names = ("port", "store", "keys_dir", "admin_token_file", "pull_tokens_file", "ready_file")
    lines = [f"{name} = {json.dumps(getattr(config, name), default=str)}" for name in names]
    file = folder / "headwater.toml"
    file.write_text("\n".join(["[origin]", *lines]))
    log = folder / "origin.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "origin", "--config", str(file)],
            cwd=REPOSITORY_ROOT,
            stdout=output,
            stderr=output,
        )
    ready = folder / "ready.json"
    try:
        eventually(lambda: ready.exists() or process.poll() is not None, 40)
        assert process.poll() is None, log.read_text()
        yield RunningOrigin(Home(folder, config), json.loads(ready.read_text())["url"])
    finally:
        process.kill()
        process.wait()
