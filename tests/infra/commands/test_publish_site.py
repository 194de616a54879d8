from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import USAGE
from infra.commands.publish_site import refuse_options_of_models
from origin.keys import new_key
from tests.fakes.sites import write_site
from tests.fakes.tier import Canned, stub_tier
from wire.errors import ConfigError


def test_options_of_models_say_nothing_about_sites() -> None:
    refuse_options_of_models([])
    with pytest.raises(ConfigError, match="--quant, --golden: not for --kind static"):
        refuse_options_of_models(["--quant", "--golden"])


@pytest.mark.parametrize(
    ("files", "code", "why"),
    [
        ({}, 1, "publish_refused"),
        ({"a%b.html": b""}, USAGE, "name_invalid"),
    ],
)
def test_a_folder_that_cannot_be_a_site_is_refused(
    tmp_path: Path, files: dict[str, bytes], code: int, why: str
) -> None:
    folder = write_site(tmp_path / "dist", files)
    folder.mkdir(exist_ok=True)
    new_key(tmp_path / "key")
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)
    answers = {"GET /healthz": Canned({}), "GET /admin/status": Canned({})}
    with stub_tier(answers) as origin:
        done = CliRunner().invoke(
            app,
            [
                *("publish", str(folder), "--kind", "static", "--model", "site", "--json"),
                *("--origin", origin.url, "--token-file", str(tmp_path / "token")),
                *("--publisher-key", str(tmp_path / "key"), "--state-dir", str(tmp_path)),
            ],
        )
    assert done.exit_code == code
    assert json.loads(done.stdout)["error"]["code"] == why
    assert [request.method for request in origin.received] == ["GET", "GET"]
