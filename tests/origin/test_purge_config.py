from __future__ import annotations

from pathlib import Path

import pytest

from origin.config import OriginConfig
from wire.errors import ConfigError
from wire.settings import load


def test_targets_are_tables_of_the_origins_own(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        """
        [[origin.purge.targets]]
        url = "http://cdn:6081"
        style = "varnish"
        token_file = "purge-token"
        """
    )
    config = load("origin", OriginConfig, file=file, environ={})
    (target,) = config.purge.targets
    assert (target.url, target.style, str(target.token_file)) == (
        *("http://cdn:6081", "varnish"),
        "purge-token",
    )
    file.write_text(file.read_text().replace("varnish", "squid"))
    with pytest.raises(ConfigError, match="squid"):
        load("origin", OriginConfig, file=file, environ={})


def test_nobody_is_told_unless_asked_for() -> None:
    assert OriginConfig().purge.targets == ()
