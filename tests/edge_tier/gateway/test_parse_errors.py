"""An error names the field that is wrong, and quotes nothing of what was sent."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
    decode,
)
from tests.fakes.cpu import least_cpu_s


class Inner(msgspec.Struct):
    size: int


class Body(msgspec.Struct):
    name: str
    inner: Inner | None = None
    many: list[Inner] = []


BODY = msgspec.json.Decoder(Body)
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def error(raw: bytes | str, at: str = "", decoder: Any = BODY) -> ParameterInvalidError:
    with pytest.raises(ParameterInvalidError) as caught:
        decode(decoder, raw, at)
    return caught.value


def test_what_fits_is_decoded_from_bytes_text_and_raw() -> None:
    for raw in (b'{"name":"x"}', '{"name":"x"}', msgspec.Raw(b'{"name":"x"}')):
        assert decode(BODY, raw) == Body("x")


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"name":5}', "name"),
        (b"{}", "name"),
        (b'{"name":"x","inner":{}}', "inner.size"),
        (b'{"name":"x","inner":{"size":"s"}}', "inner.size"),
        (b'{"name":"x","inner":[]}', "inner"),
        (b'{"name":"x","many":[{"size":1},{"size":"s"}]}', "many[1].size"),
    ],
)
def test_a_value_of_the_wrong_shape_is_named_by_its_path(raw: bytes, param: str) -> None:
    assert error(raw).param == param
    assert error(raw, at="messages[3]").param == f"messages[3].{param}"


def test_a_list_in_place_of_an_object_is_named_by_where_it_stands() -> None:
    assert error(b"[]").param is None
    assert error(b"[]", at="tools").param == "tools"


@pytest.mark.parametrize(
    ("raw", "what", "param"),
    [
        (b'{"name":"x","inner":{"size":NaN}}', "not valid JSON", "size"),
        (b'{"name":"x","many":[', "not valid JSON", "many"),
        (b'{"name":"\\ud800"}', "not valid JSON", "name"),
        (b'{"name":"\xff"}', "not UTF-8", "name"),
        (b'{"name":"x"} {}', "goes on after", None),
        (b'{"zzz":' + b"[" * 5000, "nested too deeply", "zzz"),
        (b"", "not valid JSON", None),
    ],
)
def test_broken_json_is_named_by_the_last_field_before(
    raw: bytes, what: str, param: str | None
) -> None:
    found = error(raw)
    assert (what in found.message, found.param) == (True, param)


def test_a_broken_value_within_a_field_is_named_under_it() -> None:
    assert error(b'{"name":NaN}', at="tools[0]").param == "tools[0].name"
    assert error(b"[NaN]", at="stop", decoder=ANY).param == "stop"


def test_statuses_and_codes_are_openais() -> None:
    kinds = (ParameterInvalidError, ParameterUnsupportedError, RequestTooLargeError)
    found = [(kind("m").status, kind("m").code) for kind in kinds]
    assert found == [
        (400, "invalid_value"),
        (400, "unsupported_parameter"),
        (413, "request_too_large"),
    ]


@given(secret=st.text("QXZJ", min_size=4, max_size=20), cut=st.integers(1, 12))
def test_no_message_quotes_what_was_sent(secret: str, cut: int) -> None:
    whole = b'{"name":5,"inner":"%s","x":"%s"}' % (secret.encode(), secret.encode())
    for raw in (whole, whole[:-cut], whole.replace(b"5", b"NaN"), whole + b"{}"):
        found = error(raw)
        assert secret not in f"{found.message} {found.param}"


@given(st.binary(max_size=40))
def test_any_bytes_make_a_value_or_an_error_of_ours(raw: bytes) -> None:
    with suppress(ParameterInvalidError):
        assert isinstance(decode(BODY, raw), Body)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name":"' + b'\\"' * 400_000,
        b'{"zzz":[' + b'"",' * 200_000 + b"[" * 100_000,
        b'{"name":"' + b"a" * 900_000 + b"\xff",
    ],
)
def test_the_place_in_a_megabyte_is_found_quickly(raw: bytes) -> None:
    assert least_cpu_s(lambda: error(raw), 0.05) < 0.05
