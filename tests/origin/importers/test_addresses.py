"""Where an import may go: one reading of every URL, and public addresses only."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from origin.errors import ImportRefusedError
from origin.importers.addresses import (
    Target,
    check_addresses,
    is_public,
    parse_url,
    redirected,
)

BASE = parse_url("https://example.org/a/model.gguf?sig=1")


def refused(url: str) -> str:
    with pytest.raises(ImportRefusedError) as error:
        parse_url(url)
    return error.value.message


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://example.org/a/b.gguf", Target("example.org", 443, "/a/b.gguf")),
        ("HTTPS://Example.ORG", Target("example.org", 443, "/")),
        ("https://example.org:8443/x?y=%2F..%2f", Target("example.org", 8443, "/x?y=%2F..%2f")),
        ("https://8.8.8.8/x", Target("8.8.8.8", 443, "/x")),
        ("https://[2606:4700::0:1]/x", Target("[2606:4700::1]", 443, "/x")),
        ("https://xn--bcher-kva.example/x%20y", Target("xn--bcher-kva.example", 443, "/x%20y")),
        ("https://example.org?x", Target("example.org", 443, "/?x")),
    ],
)
def test_a_plain_url_is_read(text: str, target: Target) -> None:
    assert parse_url(text) == target
    assert parse_url(target.url) == target


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org/x", "//example.org/x", "https:/example.org", "https:example.org",
        "http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "gopher://example.org/",
        "https://user@example.org/", "https://user:word@example.org/", "https://example.org@evil/",
        "https://example.org\\@evil.org/", "https://evil.org\\.example.org/", "https:\\\\evil.org/",
        "https://example.org/\\..", "https://example.org/#x", "https://example.org#@evil.org/",
        "https://exam ple.org/", "https://example.org/a b", "https://example.org/\n", " https://a.org",
        "https://example.org/\x00", "https://ex\tample.org/", "https://example.org\r\nHost:x/",
        "https://%65xample.org/", "https://example.org%00.evil.org/", "https://bücher.example/",
        "https://127。0。0。1/", "https://example.org/%", "https://example.org/%zz", "https://example.org/%0d%0a",
        "https://example.org/%2e%2e/x", "https://example.org/a%2fb", "https://example.org/a%5cb",
        "https://example.org/%252e", "https://example.org/../x", "https://example.org/a/./b",
        "https://example.org:22/", "https://example.org:80/", "https://example.org:0/",
        "https://example.org:0443/", "https://example.org:99999/", "https://example.org:/", "https://a:b/",
        "https://0x7f.1/", "https://0x7f000001/", "https://2130706433/", "https://127.1/",
        "https://0177.0.0.1/", "https://127.0.0.01/", "https://1.2.3/", "https://1.2.3.4.5/",
        "https://example.org./", "https://.example.org/", "https://a..b/", "https://-a.org/", "https:///x",
        "https://[::1%25lo]/", "https://[127.0.0.1]/", "https://::1/", "https://[::1/", "https://[v1.x]/",
        "https://" + "a" * 64 + ".org/", "https://" + "a." * 127 + "org/",
        "https://example.org/" + "a" * 9_000,
    ],
)  # fmt: skip
def test_what_two_readers_could_read_in_two_ways_is_refused(url: str) -> None:
    assert refused(url)


url_like = st.one_of(
    st.text(st.sampled_from("https:/@\\.[]#?%20aé0x:1;\n\t "), max_size=40).map("https://".__add__),
    st.from_regex(r"https://[a-z0-9.@:\\\[\]-]{1,20}/[a-z%@\\?#./0-9]{0,10}", fullmatch=True),
)


@given(url_like)
@example("https://a.b/@c")
@example("https://a.b/?@c")
def test_every_reader_sees_the_same_host_in_what_is_taken(text: str) -> None:
    try:
        target = parse_url(text, any_port=True)
    except ImportRefusedError:
        return
    split, other = urlsplit(text), URL(text)
    bare = target.host.strip("[]")
    assert split.username is None
    assert (split.hostname, split.port or 443) == (bare, target.port) or ":" in bare
    assert (other.host, other.port) == (bare, target.port)
    assert urlsplit(target.url).hostname == bare


@pytest.mark.parametrize("port", [80, 8080, 65_535])
def test_other_ports_only_where_private_networks_are_allowed(port: int) -> None:
    assert "port" in refused(f"https://example.org:{port}/x")
    assert parse_url(f"https://example.org:{port}/x", any_port=True).port == port


def test_a_query_is_not_shown() -> None:
    assert BASE.shown == "https://example.org/a/model.gguf"


# Redirects


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://cdn.example.net/x?y", "https://cdn.example.net/x?y"),
        ("//cdn.example.net/x", "https://cdn.example.net/x"),
        ("/x/y", "https://example.org/x/y"),
        ("z", "https://example.org/a/z"),
        ("../z", "https://example.org/z"),
        ("?q=2", "https://example.org/a/model.gguf?q=2"),
    ],
)
def test_a_redirect_leads_to_a_checked_url(location: str, url: str) -> None:
    assert redirected(BASE, location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "", "http://example.org/x", "ftp://x.org/", "//user@evil.org/", "\\\\evil.org/x",
        "/\\evil.org",
        "https://evil.org\\@example.org/", "https://example.org:22/", "https://[::1", "/é", "/a\nb",
        "javascript:alert(1)", "https://2130706433/",
    ],
)  # fmt: skip
def test_a_redirect_elsewhere_is_refused(location: str) -> None:
    with pytest.raises(ImportRefusedError):
        redirected(BASE, location)


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "151.101.1.69",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
        "100.63.255.1",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.0.9", "192.0.2.1",
        "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "fc00::1",
        "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001::1", "2001:db8::1",
        "2002:7f00:1::", "3fff::1", "5f00::1", "4000::1", "", "localhost", "1.2.3", "0177.0.0.1",
    ],
)  # fmt: skip
def test_all_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(ImportRefusedError):
        check_addresses([address], "example.org")


@given(st.ip_addresses(v=4))
def test_nothing_is_public_that_python_knows_as_closed(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not is_public(f"::ffff:{address}")
        assert not is_public(f"64:ff9b::{address}")


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_is_public_that_is_not_global(address: ipaddress.IPv6Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert (address.ipv4_mapped, address.sixtofour, address.teredo) == (None, None, None)


def test_one_closed_address_refuses_the_host() -> None:
    with pytest.raises(ImportRefusedError, match="allow-private-network"):
        check_addresses(["8.8.8.8", "10.0.0.1"], "example.org")
    with pytest.raises(ImportRefusedError, match="no address"):
        check_addresses([], "example.org", lambda _: True)
    assert check_addresses(["8.8.8.8", "1.1.1.1", "8.8.8.8"], "x") == ("8.8.8.8", "1.1.1.1")
    assert check_addresses(["127.0.0.1"], "x", lambda _: True) == ("127.0.0.1",)
