from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wire.process import LIFELINE

PROGRAM = """
import asyncio, sys, structlog
from dataclasses import dataclass
from wire.errors import ConfigError
from wire.process import run_tier

@dataclass(frozen=True, kw_only=True)
class Config:
    port: int = 1
    mode: str = "end"

async def run(config):
    structlog.get_logger().info("up", port=config.port, error=ValueError("x"))
    if config.mode == "refuse":
        raise ConfigError("no such folder; make it")
    if config.mode == "stay":
        print("up", flush=True)
        await asyncio.Event().wait()

sys.exit(run_tier("edge", Config, run, None, asyncio.new_event_loop))
"""


def start(
    *arguments: str, environ: dict[str, str], pass_fds: tuple[int, ...] = ()
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        env={**os.environ, **environ},
    )


def test_file_environment_and_arguments_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text("[edge]\nport = 2\n")
    for arguments, environ, port in (
        ((), {}, 2),
        ((), {"HEADWATER_EDGE__PORT": "3"}, 3),
        (("--port", "4"), {"HEADWATER_EDGE__PORT": "3"}, 4),
    ):
        process = start("--config", str(file), *arguments, environ=environ)
        _, log = process.communicate(timeout=50)
        assert process.returncode == 0
        line = json.loads(log)
        assert (line["event"], line["port"], line["error"]) == ("up", port, "x")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HEADWATER_EDGE__MODE": "refuse"}, "make it"),
        ({"HEADWATER_EDGE__PORT": "many"}, "port"),
        ({"HEADWATER_EDGE__PROT": "1"}, "prot"),
    ],
)
def test_a_bad_configuration_is_status_2_and_one_line(environ: dict[str, str], named: str) -> None:
    process = start(environ=environ)
    _, log = process.communicate(timeout=50)
    assert process.returncode == 2
    assert named in log
    assert "Traceback" not in log


def test_a_program_ends_when_its_launcher_is_gone() -> None:
    reading, writing = os.pipe()
    environ = {"HEADWATER_EDGE__MODE": "stay", LIFELINE: str(reading)}
    process = start(environ=environ, pass_fds=(reading,))
    os.close(reading)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.close(writing)  # what the kernel does for a launcher that is killed
    assert process.wait(timeout=50) != 0
    process.communicate()
