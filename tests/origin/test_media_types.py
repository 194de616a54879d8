from __future__ import annotations

import mimetypes

import pytest

from origin.media_types import _TYPES, UNKNOWN, is_compressible, is_document, media_type
from wire.static_file import StaticFile, check_static_files


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("a/B.HTML", "text/html; charset=utf-8"),
        ("app-3f9a02bc.mjs", "text/javascript; charset=utf-8"),
        ("m.wasm", "application/wasm"),
        ("x.woff2", "font/woff2"),
        ("site.webmanifest", "application/manifest+json"),
        ("data.json.gz", "application/gzip"),
        ("LICENSE", UNKNOWN),
        ("x.exe", UNKNOWN),
    ],
)
def test_a_name_has_one_type_on_every_machine(path: str, type_: str) -> None:
    mimetypes.add_type("text/x-of-this-machine", ".html")
    try:
        assert media_type(path) == type_
    finally:
        mimetypes.init()


def test_every_type_can_be_a_header() -> None:
    check_static_files({suffix: StaticFile(type=type_) for suffix, type_ in _TYPES.items()})


def test_what_is_packed_is_not_packed_again() -> None:
    for packed in (".png", ".woff2", ".mp4", ".zip", ".pdf", ".gz", ".avif", ""):
        assert not is_compressible(media_type(f"x{packed}")), packed
    for plain in (".html", ".js", ".svg", ".json", ".wasm", ".ttf", ".ico", ".gltf", ".xml"):
        assert is_compressible(media_type(f"x{plain}")), plain


def test_pages_are_documents() -> None:
    assert is_document(media_type("a.htm"))
    assert not is_document(media_type("a.svg"))
