from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.edgegrid import Credentials, authorization, read_edgerc, timestamp
from tests.fakes.ccu import ACCESS_TOKEN, CLIENT_TOKEN, EDGERC, HOST, SECRET, Request, sign
from wire.errors import ConfigError
from wire.files import write_atomically

CREDENTIALS = Credentials(
    host=HOST, client_token=CLIENT_TOKEN, access_token=ACCESS_TOKEN, client_secret=SECRET
)
SAFE = st.text("abcXYZ019-._~%", max_size=20)


@given(
    method=st.sampled_from(["POST", "GET", "PUT"]),
    scheme=st.sampled_from(["https", "http"]),
    path=st.lists(SAFE, max_size=4).map(lambda parts: "/ccu/" + "/".join(parts)),
    query=SAFE,
    body=st.binary(max_size=200) | st.just(b"x" * 131_073),
    nonce=st.uuids().map(str),
    now_s=st.integers(0, 4_000_000_000),
)
def test_the_header_is_the_one_of_akamais_own_package(
    method: str, scheme: str, path: str, query: str, body: bytes, nonce: str, now_s: int
) -> None:
    target = f"{path}?{query}" if query else path
    ours = authorization(
        CREDENTIALS,
        method=method,
        scheme=scheme,
        host=HOST,
        target=target,
        body=body,
        at=timestamp(now_s),
        nonce=nonce,
    )
    request = Request(method, f"{scheme}://{HOST}{target}", {"Host": HOST}, body)
    assert ours == sign(request, timestamp(now_s), nonce)


def test_a_time_is_told_in_utc() -> None:
    assert timestamp(1_700_000_000.9) == "20231114T22:13:20+0000"
    assert timestamp(time.time()).endswith("+0000")


def test_credentials_are_not_shown() -> None:
    for secret in (SECRET, CLIENT_TOKEN, ACCESS_TOKEN):
        assert secret not in repr(CREDENTIALS)


def test_a_section_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / ".edgerc"
    text = EDGERC + EDGERC.replace("[default]", "[papi]").replace(HOST, f"https://{HOST.upper()}/")
    write_atomically(file, text.encode())
    assert read_edgerc(file, "default") == CREDENTIALS
    assert read_edgerc(file, "papi") == CREDENTIALS
    with pytest.raises(ConfigError, match=r"no section \[ccu\]; it has: default, papi"):
        read_edgerc(file, "ccu")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="readable by others"):
        read_edgerc(file, "default")
    with pytest.raises(ConfigError, match="cannot read"):
        read_edgerc(tmp_path / "nothing", "default")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"host = {HOST}\n", "host"),
        (f"client_secret = {SECRET}\n", "client_secret"),
        (f"client_token = {CLIENT_TOKEN}\n", "client_token"),
        (f"access_token = {ACCESS_TOKEN}\n", "access_token"),
    ],
)
@pytest.mark.parametrize("instead", ["", "{name} =\n", "{name} = a;b c\n"])
def test_what_is_missing_is_named_and_nothing_told(
    tmp_path: Path, line: str, said: str, instead: str
) -> None:
    file = tmp_path / ".edgerc"
    write_atomically(file, EDGERC.replace(line, instead.format(name=said)).encode())
    with pytest.raises(ConfigError, match=rf"\[default\]: {said}: missing") as caught:
        read_edgerc(file, "default")
    for secret in (SECRET, CLIENT_TOKEN, ACCESS_TOKEN):
        assert secret not in caught.value.message


def test_a_file_of_another_kind_is_refused_in_silence(tmp_path: Path) -> None:
    file = tmp_path / ".edgerc"
    write_atomically(file, f"{SECRET}\n[x".encode())
    with pytest.raises(ConfigError, match=r"is no \.edgerc file") as caught:
        read_edgerc(file, "default")
    assert SECRET not in str(caught.value)
