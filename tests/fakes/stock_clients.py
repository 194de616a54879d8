"""Stock clients as processes of their own, and where to find those that are not in the environment.

Clients that cannot live in one environment with the others are installed beside it (``make venv``
does), each in a folder of its own below ``.venv/clients``, or wherever
``HEADWATER_TEST_CLIENTS`` says.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIMIT_S = 60.0
HF_MAIN = "import sys; from huggingface_hub.cli.hf import main; sys.argv[0] = 'hf'; main()"
_NO_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Ran:
    """A client that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def client_folder(name: str) -> Path:
    """The folder of a client beside the environment; skips the test where it is not installed."""
    places = [Path(sys.prefix) / "clients" / name]
    if given := os.environ.get("HEADWATER_TEST_CLIENTS"):
        places.insert(0, Path(given) / name)
    for place in places:
        if place.is_dir():
            return place
    pytest.skip(f"{name} is not installed beside the environment ({places[0]}); `make venv` does")


def program(name: str) -> str:
    """The path of a program; skips the test where the machine has none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def environment(home: Path, beside: Path | None = None, **values: str) -> dict[str, str]:
    """An environment for a client: a home of its own, and no word of this machine's user."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "HEADWATER_")) and name.lower() not in _NO_PROXIES
    }
    kept |= {"HOME": str(home), "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"}
    kept |= {"NO_COLOR": "1", "TMPDIR": str(home), "COLUMNS": "1000"}
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    kept["PYTHONPATH"] = str(beside) if beside is not None else ""
    return kept | values


def run(*argv: str, env: Mapping[str, str] | None = None, folder: Path | None = None) -> Ran:
    """Run a client to its end."""
    done = subprocess.run(
        argv, env=env, cwd=folder, capture_output=True, timeout=LIMIT_S, check=False
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Hf:
    """One version of the ``hf`` command, with a cache of its own.

    Args:
        beside: where the package is; None: in the environment.
    """

    home: Path
    endpoint: str
    beside: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        home = str(self.home / "hf")
        return environment(self.home, self.beside, HF_ENDPOINT=self.endpoint, HF_HOME=home)

    def __call__(self, *arguments: str, **values: str) -> Ran:
        """``hf ARGUMENTS``."""
        return self.python(HF_MAIN, *arguments, **values)

    def python(self, program: str, *arguments: str, **values: str) -> Ran:
        """A program that uses the package."""
        return run(sys.executable, "-c", program, *arguments, env=self.env | values)


@dataclass(slots=True)
class Relay:
    """A running relay: of each connection's answers it passes on the first bytes, and the rest
    when ``gate`` is set."""

    url: str
    free_bytes: int
    held: threading.Event = field(default_factory=threading.Event)
    """Something waits at the gate."""
    gate: threading.Event = field(default_factory=threading.Event)

    def pass_on(self, source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                passed += len(data)
                if answers and passed > self.free_bytes:
                    self.held.set()
                    self.gate.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def relay(target_url: str, free_bytes: int) -> Iterator[Relay]:
    """A relay before ``http://host:port``."""
    host, _, port = target_url.rpartition("/")[2].partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    made = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}", free_bytes)
    links: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        pump = threading.Thread(
            target=made.pass_on, args=(source, sink), kwargs={"answers": answers}, name="relay-pump"
        )
        threads.append(pump)
        pump.start()

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                links.extend((client, server))
                start(client, server, answers=False)
                start(server, client, answers=True)

    acceptor = threading.Thread(target=accept, name="relay-accept")
    acceptor.start()
    try:
        yield made
    finally:
        made.gate.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for link in links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for link in links:
            link.close()
