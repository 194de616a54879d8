from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.discovery import MAX_ADDRESSES, Name, resolve, split
from wire.errors import ConfigError


class Zone:
    """A name server that a test fills, or takes away."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] | None = addresses
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        if self.addresses is None:
            raise OSError("Name or service not known")
        return self.addresses


def test_every_address_becomes_a_url_in_order() -> None:
    zone = Zone("10.0.0.2", "fd00::1", "10.0.0.1")
    found = Name("dns+http://edge-pods:7401", zone).look()
    assert found == ("http://10.0.0.1:7401", "http://10.0.0.2:7401", "http://[fd00::1]:7401")
    assert zone.asked == [("edge-pods", 7401)]


def test_port_80_where_none_is_given() -> None:
    assert Name("dns+http://edges", Zone("10.0.0.1")).look() == ("http://10.0.0.1:80",)


def test_a_name_server_that_is_away_takes_nobody_with_it() -> None:
    zone = Zone("10.0.0.1")
    name = Name("dns+http://edges:1", zone)
    before = name.look()
    zone.addresses = None
    assert name.look() == before == ("http://10.0.0.1:1",)
    zone.addresses = ()
    assert name.look() == ()


def test_a_name_that_is_not_there_yet_is_nobody() -> None:
    zone = Zone()
    zone.addresses = None
    assert Name("dns+http://edges:1", zone).look() == ()


def test_a_name_has_no_more_servers_than_are_told() -> None:
    zone = Zone(*(f"10.0.{n // 256}.{n % 256}" for n in range(MAX_ADDRESSES + 5)))
    assert len(Name("dns+http://edges:1", zone).look()) == MAX_ADDRESSES


@pytest.mark.parametrize(
    "url",
    ["dns+https://edges:1", "dns+http://", "dns+http://a:1/path", "dns+http://a:x", "dns+edges"],
)
def test_what_cannot_be_looked_up_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"dns\+http://name"):
        Name(url)


@pytest.mark.parametrize("url", ["dns+http://me:s3cret@edges:1", "dns+http://edges:1?token=1"])
def test_what_would_be_dropped_is_refused_and_a_password_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Name(url)
    assert "s3cret" not in caught.value.message


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        Name(f"dns+{text}", Zone())
    except ConfigError:
        return
    assert text.lower().startswith("http:")


def test_names_and_servers_are_told_apart() -> None:
    assert split(["http://a", "dns+http://b", "https://c"]) == (
        ["http://a", "https://c"],
        ["dns+http://b"],
    )


def test_the_system_knows_this_machine() -> None:
    assert set(resolve("localhost", 1)) <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r".+"):
        resolve("nobody.invalid.", 1)
