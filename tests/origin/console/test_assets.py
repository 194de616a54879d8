from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from origin.console.assets import INDEX, STATIC, read_assets
from wire.errors import ConfigError


def test_files_are_read_once_with_types_and_tags(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("<!doctype html>" + "x" * 2_000)
    (tmp_path / "small.js").write_text("let a;")
    assets = read_assets(tmp_path)
    page, script = assets[INDEX], assets["small.js"]
    assert page.headers["Content-Type"].startswith("text/html")
    assert gzip.decompress(page.zipped) == page.body
    assert (script.zipped, script.body) == (b"", b"let a;")
    assert page.etag != script.etag
    assert read_assets(tmp_path)[INDEX].etag == page.etag


def test_the_page_may_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("x")
    (tmp_path / "a.js").write_text("x")
    policy = read_assets(tmp_path)[INDEX].headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "Content-Security-Policy" not in read_assets(tmp_path)["a.js"].headers


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"notes\.txt is no file of the console's page"):
        read_assets(tmp_path)


def test_a_page_that_was_not_installed_is_no_file(tmp_path: Path) -> None:
    assert read_assets(tmp_path / "nowhere") == {}


def test_what_ships_can_be_read() -> None:
    assert set(read_assets()) == {path.name for path in STATIC.glob("*") if path.is_file()}
