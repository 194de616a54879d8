"""infra.commands.passphrase: where it comes from, in which order, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from infra.commands.passphrase import passphrase
from wire.errors import ConfigError, HeadwaterError

VARIABLE = "HEADWATER_ROOT_PASSPHRASE"


@pytest.fixture(autouse=True)
def _nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("typed\n"))


def secret_file(folder: Path, mode: int) -> Path:
    file = folder / "passphrase"
    file.write_text("of the file\n")
    file.chmod(mode)
    return file


def test_the_file_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "of the environment")
    assert passphrase(secret_file(tmp_path, 0o600)) == "of the file"
    assert passphrase(None) == "of the environment"


def test_a_file_that_others_can_read_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "of the environment")
    with pytest.raises(HeadwaterError) as caught:
        passphrase(secret_file(tmp_path, 0o644))
    assert "of the file" not in caught.value.message
    with pytest.raises(HeadwaterError):
        passphrase(tmp_path / "nothing")


@pytest.mark.parametrize("empty", [False, True])
def test_a_pipe_is_not_asked(monkeypatch: pytest.MonkeyPatch, *, empty: bool) -> None:
    if empty:
        monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ConfigError, match=f"--passphrase-file, or set {VARIABLE}"):
        passphrase(None)
