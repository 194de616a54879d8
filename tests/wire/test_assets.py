from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.facades import make_model
from tests.fakes.sites import make_site, text
from wire.assets import AssetsConfig, NotAcceptableError, Resource, Site, site_of
from wire.content_coding import IDENTITY
from wire.errors import ConfigError, NameInvalidError

FILES = {
    "index.html": text("page"),
    "docs/index.html": text("docs"),
    "app.js": text("script"),
    "dot.png": b"png",
    "empty.txt": b"",
}


def site() -> Site:
    found = site_of(make_site(FILES).manifest)
    assert found is not None
    return found


def resource(path: str) -> Resource:
    found = site().at(path)
    assert found is not None
    return found


def test_a_model_is_no_site() -> None:
    assert site_of(make_model().manifest) is None


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("", "index.html"),
        ("docs/", "docs/index.html"),
        ("app.js", "app.js"),
        ("dot.png", "dot.png"),
    ],
)
def test_an_address_has_one_file(address: str, path: str) -> None:
    assert resource(address).entry.path == path


@pytest.mark.parametrize(
    "address", ["docs", "app.js.br", "app.js/", "/", "docs//", "x", "../app.js"]
)
def test_what_is_no_address_has_none(address: str) -> None:
    assert site().at(address) is None


def test_a_folder_lacks_its_slash() -> None:
    assert site().is_folder("docs")
    assert not site().is_folder("app.js")
    assert not site().is_folder("doc")


def test_the_smallest_form_comes_first() -> None:
    sizes = [entry.size for entry in resource("app.js").coded.values()]
    assert len(sizes) == 3
    assert sizes == sorted(sizes)
    assert resource("dot.png").coded == {}


def test_a_part_is_of_the_file_or_of_the_form_that_the_client_has() -> None:
    script = resource("app.js")
    assert script.select("br, gzip")[1] == "br"
    assert script.select("br, gzip", ranged=True) == (script.entry, IDENTITY)
    form = script.coded["gzip"]
    given = script.select("br, gzip", ranged=True, if_range=f'"{form.sha256}"')
    assert given == (form, "gzip")


def test_a_client_that_takes_nothing_is_told() -> None:
    with pytest.raises(NotAcceptableError):
        resource("dot.png").select("identity;q=0")
    with pytest.raises(NotAcceptableError):
        resource("app.js").select("br, identity;q=0", ranged=True)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"channel": "../x"}, NameInvalidError),
        ({"max_age_s": -1}, ConfigError),
        ({"keep_previous": 5}, ConfigError),
        ({"sites_held": 0}, ConfigError),
        ({"held_bytes": -1}, ConfigError),
        ({"content_security_policy": "default-src\r\nX: y"}, ConfigError),
        ({"access_control_allow_origin": "*\n"}, ConfigError),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AssetsConfig(**wrong)


def test_a_header_that_is_switched_off_is_not_sent() -> None:
    assert AssetsConfig().headers()["Cross-Origin-Opener-Policy"] == "same-origin"
    config = AssetsConfig(content_security_policy="", access_control_allow_origin="*")
    assert "Content-Security-Policy" not in config.headers()
    assert config.headers()["Access-Control-Allow-Origin"] == "*"
    assert config.headers()["X-Content-Type-Options"] == "nosniff"
