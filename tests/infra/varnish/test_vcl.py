"""The shipped VCL, compiled by Varnish."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from infra.varnish import FOLDER
from tests.fakes.cdn import program, varnish_files


def compiled(vcl: Path, work: Path) -> subprocess.CompletedProcess[str]:
    argv = [program("varnishd"), "-C", "-f", str(vcl), "-p", f"vcl_path={vcl.parent}"]
    argv += ["-n", str(work), "-j", "none"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("shipped", [True, False])
def test_varnish_takes_it(tmp_path: Path, shipped: bool) -> None:
    vcl = (
        FOLDER / "default.vcl" if shipped else varnish_files(tmp_path / "vcl", "http://127.0.0.1:9")
    )
    ran = compiled(vcl, tmp_path / "work")
    assert ran.returncode == 0, ran.stderr
    assert "warning" not in ran.stderr.lower()


def test_the_shipped_secret_opens_nothing() -> None:
    """Whoever forgets to set one has a cache that nobody can purge, not one that all can."""
    given = re.findall(r'Headwater-Expected-Secret = "([^"]*)"', (FOLDER / "site.vcl").read_text())
    assert given == ["replace-me"]
    assert 'Headwater-Expected-Secret == "replace-me"' in (FOLDER / "default.vcl").read_text()


def test_bans_are_of_the_kind_that_the_lurker_can_test() -> None:
    vcl = (FOLDER / "default.vcl").read_text()
    bans = re.findall(r'std\.ban\("([^"]*)', vcl)
    assert bans
    assert all(ban.startswith("obj.http.Surrogate-Key ~ ") for ban in bans)
