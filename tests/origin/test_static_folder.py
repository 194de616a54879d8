from __future__ import annotations

import os
from pathlib import Path

import pytest

from origin.errors import PublishError
from origin.static_folder import FolderLimits, is_hashed, read_folder
from tests.fakes.sites import write_site
from wire.errors import HeadwaterError, NameInvalidError

FILES = {"index.html": b"page", "b/c.js": b"script", "b/app-3f9a02bc.js": b"hashed"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_site(tmp_path / "site", FILES)


def test_files_come_in_order_with_what_they_are(folder: Path) -> None:
    found = read_folder(folder)
    assert [(one.path, one.size) for one in found.files] == [
        ("b/app-3f9a02bc.js", 6),
        ("b/c.js", 6),
        ("index.html", 4),
    ]
    assert [one.static.immutable for one in found.files] == [True, False, False]
    assert found.files[2].static.type == "text/html; charset=utf-8"
    assert found.hidden == ()


def test_hidden_files_stay_behind_and_are_told(folder: Path) -> None:
    write_site(folder, {".git/config": b"x", ".env": b"SECRET", "b/.DS_Store": b"x"})
    found = read_folder(folder)
    assert len(found.files) == len(FILES)
    assert found.hidden == (".env", ".git", "b/.DS_Store")


@pytest.mark.parametrize("name", ["a%2e.js", "ü.js", "a\nb", "a\\b", "-x.js", "a..b", "a:b", "a?b"])
def test_a_name_that_cannot_be_an_address_is_named(folder: Path, name: str) -> None:
    (folder / "b" / name).write_bytes(b"")
    with pytest.raises(NameInvalidError, match="cannot be an address"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["[id].js", "(shop)", "~home", "@scope", "a,b+c=d.js", "_app"])
def test_names_that_site_generators_make_pass(folder: Path, name: str) -> None:
    write_site(folder, {f"{name}/index.html": b""})
    assert f"{name}/index.html" in {one.path for one in read_folder(folder).files}


def test_a_link_inside_the_folder_is_its_file(folder: Path) -> None:
    (folder / "again.js").symlink_to("b/c.js")
    assert {one.path: one.size for one in read_folder(folder).files}["again.js"] == 6


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/passwd", "out of the folder"),
        ("../secret", "out of the folder"),
        ("b/../../secret", "out of the folder"),
        ("nowhere", "to no file"),
        ("b", "to no file"),
        (".", "to no file"),
        (".env", "hidden"),
    ],
)
def test_other_links_are_refused(folder: Path, target: str, why: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / ".env").write_bytes(b"secret")
    (folder / "link").symlink_to(target)
    with pytest.raises(PublishError, match=why):
        read_folder(folder)


def test_a_link_to_a_link_that_leads_out_is_refused(folder: Path) -> None:
    (folder / "one").symlink_to("b/two")
    (folder / "b" / "two").symlink_to("../../secret")
    (folder.parent / "secret").write_bytes(b"secret")
    with pytest.raises(PublishError, match="out of the folder"):
        read_folder(folder)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(PublishError, match="pipe is neither"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (FolderLimits(files=2), "more than 2 files"),
        (FolderLimits(file_bytes=5), "5 at most"),
        (FolderLimits(total_bytes=15), "together"),
        (FolderLimits(depth=0), "too deep"),
    ],
)
def test_a_site_is_bounded(folder: Path, limits: FolderLimits, why: str) -> None:
    with pytest.raises(PublishError, match=why):
        read_folder(folder, limits=limits)


def test_what_is_no_site_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path / "absent", tmp_path):
        with pytest.raises(HeadwaterError):
            read_folder(wrong)
    file = tmp_path / "x.html"
    file.write_bytes(b"")
    with pytest.raises(PublishError, match="not a folder"):
        read_folder(file)


def test_a_publisher_may_say_what_never_changes(folder: Path) -> None:
    found = read_folder(folder, immutable=["b/*"])
    assert [one.static.immutable for one in found.files] == [True, True, False]
    with pytest.raises(PublishError, match=r"no file fits 'x/\*'"):
        read_folder(folder, immutable=["x/*"])


@pytest.mark.parametrize(
    "name",
    [
        "app-3f9a02bc.js",
        "app.3f9a02bc.css",
        "a/chunk-2FVDYQ4O.js",
        "index-BfX3k9aQ.js",
        "main.3f9a02bc9d0e1f2a3b4c.js.map",
        "font-DtB9_x-Q.woff2",
    ],
)
def test_bundlers_names_are_known(name: str) -> None:
    assert is_hashed(name)


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "page-3f9a02bc.html",
        "user-settings.js",
        "report-20240131.pdf",
        "chapter-section12.js",
        "app-v1.2.3.js",
        "app.min.js",
        "side-MenuItems.js",
        "app-3f9a02b.js",
        "3f9a02bc.js",
        "jquery-3.7.1.js",
        "IMG-20240131.jpg",
    ],
)
def test_words_dates_and_pages_are_no_hashes(name: str) -> None:
    assert not is_hashed(name)
