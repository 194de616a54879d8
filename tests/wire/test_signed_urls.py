from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.signed_urls import EXPIRES, SIGNATURE, Signer


def test_an_address_opens_its_subject_until_it_expires() -> None:
    now = [1_000.0]
    signer = Signer("secret", clock=lambda: now[0])
    query = signer.query("chat@sha256:ab", 60)
    assert signer.opens("chat@sha256:ab", query)
    assert Signer("secret", clock=lambda: now[0]).opens("chat@sha256:ab", query)
    assert not signer.opens("chat@sha256:ac", query)
    assert not Signer("another", clock=lambda: now[0]).opens("chat@sha256:ab", query)
    later = {**query, EXPIRES: str(int(query[EXPIRES]) + 1)}
    assert not signer.opens("chat@sha256:ab", later)
    now[0] = 1_060.0
    assert not signer.opens("chat@sha256:ab", query)


@given(st.dictionaries(st.sampled_from([EXPIRES, SIGNATURE]), st.text()))
def test_no_made_up_query_opens_anything(query: dict[str, str]) -> None:
    assert not Signer("secret").opens("x", query)


def test_a_token_names_its_holder_until_it_expires() -> None:
    now = [1_000.0]
    signer = Signer("secret", clock=lambda: now[0])
    token, nobody = signer.token("k3x9q2ab0z", 60), signer.token("", 60)
    assert signer.holder(token) == "k3x9q2ab0z"
    assert signer.holder(nobody) == ""
    assert signer.holder(token.replace("k3x", "k4x")) is None
    assert signer.holder(token[:-1] + ("0" if token[-1] != "0" else "1")) is None
    now[0] = 1_060.0
    assert signer.holder(token) is None


@given(st.text())
def test_no_made_up_token_has_a_holder(token: str) -> None:
    assert Signer("secret").holder(token) is None


def test_an_address_is_no_token() -> None:
    signer = Signer("secret")
    query = signer.query("holder", 60)
    assert signer.holder(f"hwr_holder_{query[EXPIRES]}_{query[SIGNATURE]}") is None
