"""Each check takes what is personal data and refuses its nearest look-alikes."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway import personal_checks as checks
from edge_tier.gateway.personal_checks import Span, luhn

Check = Callable[[bytes, int, int], Span | None]


def judged(check: Check, candidate: str, before: str = "", after: str = "") -> str | None:
    """What of a candidate is personal data, where it stands between other text."""
    lead, middle = before.encode(), candidate.encode()
    data = lead + middle + after.encode()
    span = check(data, len(lead), len(lead) + len(middle))
    return None if span is None else data[span[0] : span[1]].decode()


@pytest.mark.parametrize("digits", ["4111111111111111", "378282246310005", "79927398713"])
def test_luhn_accepts_known_numbers_and_no_single_wrong_digit(digits: str) -> None:
    assert luhn(digits.encode())
    for place in range(len(digits)):
        wrong = digits[:place] + str((int(digits[place]) + 1) % 10) + digits[place + 1 :]
        assert not luhn(wrong.encode())


@given(st.text("0123456789", min_size=2, max_size=18).filter(lambda text: len(set(text)) > 1))
def test_exactly_one_last_digit_makes_a_number_right(digits: str) -> None:
    assert [luhn((digits + last).encode()) for last in "0123456789"].count(True) == 1


@pytest.mark.parametrize("digits", ["0000000000000000", "8888888888888888"])
def test_the_same_digit_over_and_over_is_no_number(digits: str) -> None:
    assert not luhn(digits.encode())


def test_a_cards_four_groups_may_be_followed_by_another_number() -> None:
    assert judged(checks.card, "4111 1111 1111 1111 123") == "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("before", "after"), [("1", ""), ("", "1"), ("0.", ""), ("", ".5"), ("9-", ""), ("", "-1")]
)
@pytest.mark.parametrize(
    ("check", "text"),
    [
        (checks.card, "4111111111111111"),
        (checks.us_ssn, "078-05-1120"),
        (checks.phone, "415-555-2671"),
        (checks.ipv4, "203.0.113.9"),
    ],
)
def test_a_part_of_a_longer_number_is_none(
    check: Check, text: str, before: str, after: str
) -> None:
    assert judged(check, text, "x ", ". 5 ") == text
    assert judged(check, text, before, after) is None


IBANS = ["DE89370400440532013000", "GB82WEST12345698765432", "NO9386011117947"]


@pytest.mark.parametrize("number", IBANS)
def test_an_iban_ends_where_its_country_says_and_no_digit_is_wrong(number: str) -> None:
    assert judged(checks.iban, number + " and more words") == number
    assert judged(checks.iban, number.lower()) == number.lower()
    assert judged(checks.iban, number + "7") is None
    assert judged(checks.iban, number[:-1]) is None
    for at in range(2, len(number)):
        if number[at].isdigit():
            wrong = number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :]
            assert judged(checks.iban, wrong) is None


@pytest.mark.parametrize(
    ("number", "issued"),
    [
        ("078-05-1120", True),
        ("899-99-9999", True),
        *(("000-05-1120", False), ("666-05-1120", False), ("900-05-1120", False)),
        *(("078-00-1120", False), ("078-05-0000", False)),
    ],
)
def test_numbers_that_were_never_issued_are_none(number: str, issued: bool) -> None:
    assert (judged(checks.us_ssn, number) is not None) == issued


@pytest.mark.parametrize(
    ("number", "is_one"),
    [
        ("481 753", True),
        ("48 175", False),
        ("+12 345 678 901 2345", True),
        ("+12 345 678 901 23456", False),
        ("415.555.2671 ext. 12345678", True),
        ("2024-01-15", False),
        ("15/01/2024", False),
        ("2024-13-15", True),
    ],
)
def test_phones_have_6_to_15_digits_and_are_no_dates(number: str, is_one: bool) -> None:
    assert (judged(checks.phone, number) is not None) == is_one


@pytest.mark.parametrize("text", ["127.0.0.1", "0.1.2.3", "255.255.255.255", "1.2.3.256"])
def test_addresses_of_nobody_are_none(text: str) -> None:
    assert judged(checks.ipv4, text) is None


def test_a_version_is_no_address() -> None:
    assert judged(checks.ipv4, "1.2.3.4", "Version ") is None
    assert judged(checks.ipv4, "1.2.3.4", "from ") == "1.2.3.4"


@pytest.mark.parametrize(
    ("text", "before", "after", "is_one"),
    [
        ("2001:db8::8a2e:370:7334", "", ":8080", False),
        ("2001:db8::8a2e:370:7334", ":", "", False),
        ("2001:db8::8a2e:370:7334", " ", ": hello", True),
        *(("dead::beef", "", "", False), ("a1::b2", "", "", False), ("::1", "", "", False)),
        *(("fe80:::1", "", "", False), ("fe80::a:b:c", "", "", True)),
    ],
)
def test_what_looks_like_an_ipv6_address(text: str, before: str, after: str, is_one: bool) -> None:
    assert (judged(checks.ipv6, text, before, after) is not None) == is_one


def test_a_repository_is_no_person() -> None:
    assert judged(checks.email, "git@example.org", after=":team/repo") is None
    assert judged(checks.email, "git@example.org", after=" ") == "git@example.org"
    assert judged(checks.email, "ann@example.org", after=":") == "ann@example.org"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("sk-aB3aB3aB3aB3aB3aB3", True),
        ("sk-aB3aB3aB3aB3aB3a", False),
        ("sk-learn-is-a-long-name-4", False),
        ("sk-Learn-Is-A-Long-Name", False),
    ],
)
def test_made_keys_mix_letters_and_digits(text: str, is_one: bool) -> None:
    assert (judged(checks.secret, text) is not None) == is_one


@given(st.binary(max_size=30))
def test_a_token_starts_with_a_header_that_names_its_algorithm(header: bytes) -> None:
    def token(head: bytes) -> str:
        return base64.urlsafe_b64encode(head).rstrip(b"=").decode() + ".e30.x"

    assert judged(checks.jwt, token(header)) is None
    named = b'{"alg":"none","x":"' + header.hex().encode() + b'"}'
    assert judged(checks.jwt, token(named)) == token(named)


def test_a_header_nested_without_end_is_none() -> None:
    assert judged(checks.jwt, base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.x") is None
