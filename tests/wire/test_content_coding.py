from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.content_coding import IDENTITY, accepted, choose

ALL = ("br", "zstd", "gzip")


@pytest.mark.parametrize(
    ("field", "offered", "chosen"),
    [
        (None, ALL, IDENTITY),
        ("", ALL, IDENTITY),
        ("gzip, deflate, br, zstd", ALL, "br"),
        ("gzip, deflate", ALL, "gzip"),
        ("gzip", (), IDENTITY),
        ("deflate", ALL, IDENTITY),
        # The examples of RFC 9110 section 12.5.3.
        ("compress, gzip", ALL, "gzip"),
        ("*", ALL, "br"),
        ("compress;q=0.5, gzip;q=1.0", ALL, "gzip"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", ALL, "gzip"),
        # A weight of its own goes before the place in our list.
        ("gzip;q=1, br;q=0.2", ALL, "gzip"),
        ("br;q=0, *", ALL, "zstd"),
        ("gzip;q=0", ("gzip",), IDENTITY),
        ("identity, gzip;q=0.5", ALL, IDENTITY),
        ("identity, gzip", ALL, "gzip"),
        ("identity;q=1, *;q=0", ALL, IDENTITY),
        ("GZIP;Q=0.3", ALL, "gzip"),
        ("x-gzip", ALL, "gzip"),
        ("\tgzip\t;\tq=0.001 ", ALL, "gzip"),
        # Nothing is left.
        ("identity;q=0", (), None),
        ("*;q=0", ALL, None),
        ("identity;q=0, gzip;q=0.0", ("gzip",), None),
        # What is malformed is not there.
        ("gzip;q=2", ALL, IDENTITY),
        ("gzip;q=-1", ALL, IDENTITY),
        ("gzip;level=9", ALL, IDENTITY),
        ("g zip", ALL, IDENTITY),
        ("gzip;q=1.0000", ALL, IDENTITY),
    ],
)
def test_what_a_client_is_given(
    field: str | None, offered: tuple[str, ...], chosen: str | None
) -> None:
    assert choose(field, offered) == chosen


def test_a_field_without_end_is_read_to_a_bound() -> None:
    assert len(accepted(",".join(f"c{i}" for i in range(10_000)))) == 32
    assert choose("x," * 32 + "gzip", ALL) == IDENTITY


codings = st.sampled_from([*ALL, IDENTITY, "*", "deflate"])
weights = st.sampled_from(["", ";q=0", ";q=0.1", ";q=0.5", ";q=1", ";q=1.000"])
fields = st.lists(st.tuples(codings, weights), max_size=6, unique_by=lambda pair: pair[0])


@given(fields, st.lists(st.sampled_from(ALL), unique=True))
def test_nothing_is_given_that_the_client_refuses(
    elements: list[tuple[str, str]], offered: list[str]
) -> None:
    field = ", ".join(coding + weight for coding, weight in elements)
    named = {coding: float(weight[3:] or 1) for coding, weight in elements}
    chosen = choose(field, offered)

    def weight(coding: str) -> float:
        return named.get(coding, named.get("*", 1.0 if coding == IDENTITY else 0.0))

    if chosen is None:
        assert weight(IDENTITY) == 0
        assert all(weight(coding) == 0 for coding in offered)
        return
    assert chosen in (*offered, IDENTITY)
    assert weight(chosen) > 0
    if chosen != IDENTITY:
        assert weight(chosen) == max(weight(coding) for coding in offered)


@given(st.text(max_size=200))
def test_any_text_has_an_answer(field: str) -> None:
    assert choose(field, ALL) in (*ALL, IDENTITY, None)
    assert all(0 <= weight <= 1 for weight in accepted(field).values())
