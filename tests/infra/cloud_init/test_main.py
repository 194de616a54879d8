"""``python -m infra.cloud_init``, as who does without Terraform uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.cloud_init.__main__ import main
from tests.fakes.first_boot import VALUES, user_data


@pytest.mark.parametrize("tier", sorted(VALUES))
def test_it_prints_the_user_data(tier: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for name, value in VALUES[tier].items() for word in ("--set", f"{name}={value}")]
    assert main([tier, *words]) == 0
    assert capsys.readouterr().out == user_data(tier)


def test_it_says_what_is_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["edge", "--names"]) == 0
    assert "origin_url" in capsys.readouterr().out.split()
    file = tmp_path / "domain"
    file.write_text("edge.example.com\n")
    assert main(["edge", "--set", f"domain=@{file}"]) == 2
    said = capsys.readouterr().err
    assert "missing" in said
    assert "domain" not in said
    assert main(["edge", "--set", "domain=@/nowhere"]) == 2
    assert "cannot read /nowhere" in capsys.readouterr().err
    assert main(["edge", "--set", "domain"]) == 2
