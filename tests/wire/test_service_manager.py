from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ConfigError
from wire.service_manager import Manager, manager_of, running, send, starting, stopping

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
from prometheus_client import CollectorRegistry
from wire.http_server import add_operations, serve

async def opens(app):
    while not Path(sys.argv[1] + "-opened").exists():
        await asyncio.sleep(0.01)

async def main():
    app, flag = web.Application(), Path(sys.argv[1])
    add_operations(
        app, ready=lambda: None if flag.exists() else "pulling 1 of 2", registry=CollectorRegistry()
    )
    app.on_startup.append(opens)
    await serve(app, host="127.0.0.1", port=0, ready_file=flag.parent / "url", drain_s=1)

asyncio.run(main())
"""


def lines(message: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in message.decode().splitlines())


def test_without_a_service_manager_there_is_nobody_to_tell() -> None:
    assert manager_of({}, 7) is None
    assert manager_of({"NOTIFY_SOCKET": ""}, 7) is None


def test_an_abstract_name_begins_with_nul() -> None:
    found = manager_of({"NOTIFY_SOCKET": "@/org/run"}, 7)
    assert found is not None
    assert found.address == "\0/org/run"


@pytest.mark.parametrize("value", ["relative", "vsock:2:1234"])
def test_an_address_of_another_kind_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET"):
        manager_of({"NOTIFY_SOCKET": value}, 7)


def test_a_watchdog_gets_three_beats_in_its_time() -> None:
    found = manager_of({"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "6000000"}, 7)
    assert found is not None
    assert (found.watchdog_s, found.beat_s) == (6.0, 2.0)


def test_a_watchdog_of_another_process_is_none_of_ours() -> None:
    environ = {"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "8"}
    found = manager_of(environ, 7)
    assert found is not None
    assert found.watchdog_s == 0


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="WATCHDOG_USEC"):
        manager_of({"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1e6"}, 7)


def test_what_starts_asks_for_time() -> None:
    said = lines(starting("pulling", 5.0))
    assert said["STATUS"] == "pulling"
    assert int(said["EXTEND_TIMEOUT_USEC"]) > 2 * 5_000_000
    assert "READY" not in said


def test_ready_is_said_once_and_the_watchdog_is_fed_always() -> None:
    assert lines(running(None, first=True)) == {
        "READY": "1",
        "WATCHDOG": "1",
        "STATUS": "serving",
    }
    assert lines(running("drained", first=False)) == {"WATCHDOG": "1", "STATUS": "drained"}


@given(st.text())
def test_a_reason_is_no_message_of_its_own(reason: str) -> None:
    said = starting(reason, 1.0).decode()
    assert len(said.splitlines()) == 2
    assert len(said) < 300


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    send(Manager(address=str(tmp_path / "nobody")), stopping(1.0))


def test_a_tier_says_ready_when_it_is_and_stopping_when_it_is_told_to(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(flag)], env=environ)
        try:
            for _ in range(3):  # it does not listen yet, and must not run out of time
                first = lines(manager.recv(4096))
                assert first["STATUS"] == "setting up"
                assert int(first["EXTEND_TIMEOUT_USEC"]) > 30_000_000
            (tmp_path / "flag-opened").touch()
            while (said := lines(manager.recv(4096)))["STATUS"] == "setting up":
                assert "READY" not in said
            assert said["STATUS"] == "pulling 1 of 2"
            assert "READY" not in said
            flag.touch()
            while "READY" not in (said := lines(manager.recv(4096))):
                assert "WATCHDOG" not in said
            assert lines(manager.recv(4096)) == {"WATCHDOG": "1", "STATUS": "serving"}
            assert json.loads((tmp_path / "url").read_bytes())["pid"] == process.pid
            process.send_signal(signal.SIGTERM)
            while "STOPPING" not in (said := lines(manager.recv(4096))):
                assert said["WATCHDOG"] == "1"
            assert said["STATUS"] == "stopping"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
