from __future__ import annotations

from pathlib import Path

import pytest

from origin.config import OriginConfig
from wire.errors import ConfigError
from wire.settings import load


def test_the_console_is_configured_as_everything_else(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text('[origin.console]\ninterval_ms = 250\nedges = ["http://a:1"]\n')
    environ = {"HEADWATER_ORIGIN__CONSOLE__ENABLED": "false"}
    console = load("origin", OriginConfig, file=file, environ=environ).console
    assert (console.interval_ms, console.edges, console.enabled) == (250, ("http://a:1",), False)


@pytest.mark.parametrize(
    "setting",
    [
        "interval_ms = 0",
        "session_s = 0",
        "max_viewers = 0",
        'edges = ["ftp://a"]',
        'edges = ["a"]',
        'edges = ["http://user:secret@a"]',
        'edges = ["http://a/path"]',
    ],
)
def test_a_console_that_cannot_be_is_refused(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(f"[origin.console]\n{setting}\n")
    with pytest.raises(ConfigError, match=r"origin\.console"):
        load("origin", OriginConfig, file=file, environ={})
