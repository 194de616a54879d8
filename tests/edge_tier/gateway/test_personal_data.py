"""Personal data and secrets: what is found, and what merely looks like it and is left alone."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.personal_data import (
    DETECTORS,
    Match,
    TooMuchPersonalDataError,
    find,
)
from tests.fakes.cpu import least_cpu_s

GITHUB = "ghp_" + "a1B2" * 9
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\nab==\n-----END RSA PRIVATE KEY-----"
PGP_KEY = (
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: Gnu-PG v1\n\nab==\n"
    "-----END PGP PRIVATE KEY BLOCK-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_"

FOUND = [
    ("credit_card", "card ", "4111111111111111", " please"),
    ("credit_card", "Visa ", "4111 1111 1111 1111", ", exp 12/25"),
    ("credit_card", "", "5500-0055-5555-5559", ""),
    ("credit_card", "in 2024 ", "4111 1111 1111 1111", " 5 times"),
    ("credit_card", "", "41111111 11111111", " 123"),
    ("credit_card", "", "3782 822463 10005", ""),
    ("credit_card", "JCB:", "3530111333300000", "."),
    ("credit_card", "name,", "2223000048400011", ",12/27"),
    ("credit_card", "", "6011111111111117", ""),
    ("credit_card", "my card ", "676188866500", " is lost"),
    ("credit_card", "", "180088189763961", ""),
    ("credit_card", "", "3503451165680423", ""),
    ("us_driver_license", "My driver's license number is ", "A125325867", "."),
    ("us_driver_license", "driving licence no: ", "U6292-8788-5571", ""),
    ("iban", "IBAN ", "DE89370400440532013000", ""),
    ("iban", "", "DE89 3704 0044 0532 0130 00", " bitte"),
    ("iban", "my iban is ", "gb82west12345698765432", ""),
    ("iban", "", "FR14 2004 1010 0505 0001 3M02 606", " and some more words"),
    ("iban", "", "NO93 8601 1117 947", "."),
    ("us_ssn", "SSN ", "078-05-1120", ""),
    ("us_ssn", "my social security number is ", "078051120", ""),
    ("us_ssn", "ssn: ", "078 05 1120", ""),
    ("email", "<", "john.doe+tag@sub.example.co.uk", ">."),
    ("email", "Frau ", "jörg_müller@exämple.de", ""),
    ("email", "邮箱是", "li@example.cn", "。"),
    ("phone", "call ", "+44 20 7946 0958", " now"),
    ("phone", "", "+1 (415) 555-2671", ""),
    ("phone", "", "(415) 555-2671", ""),
    ("phone", "", "415.555.2671 x12", ""),
    ("phone", "", "1-800-555-0199", ""),
    ("phone", "Tel.: ", "030/1234567", ""),
    ("phone", "my new number is ", "0495 254 814", ""),
    ("phone", "You can reach me under ", "236 4262", " after 5"),
    ("phone", "phone number is ", "5551234567", ""),
    ("phone", "They're not answering at ", "481 7531", ""),
    ("phone", "", "22 498317", " office"),
    ("phone", "", "02.27.96.63.08", ""),
    ("ip_address", "from ", "203.0.113.9", "."),
    ("ip_address", "", "192.168.1.10", ":8080"),
    ("ip_address", "", "2001:db8::8a2e:370:7334", ""),
    ("ip_address", "", "2001:db8:0:1:1:1:1:1", "/64"),
    ("aws_key", "key ", "AKIAIOSFODNN7EXAMPLE", ""),
    ("aws_key", "aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""),
    ("gcp_key", "", "AIza" + "Sy-_9" * 7, ""),
    ("openai_key", "", "sk-proj-abcdefghijklmnop1234567890ABCDEFGH", ""),
    ("openai_key", "OPENAI=", "sk-" + "aB3" * 16, ""),
    ("github_token", "", GITHUB, ""),
    ("github_token", "", "github_pat_11ABCDEFG0123456789abc", ""),
    ("api_token", "", "xoxb-" + "123456789012-abcdefghij", ""),
    ("api_token", "", "sk_live_" + "4eC39HqLyjWD" * 2, ""),
    ("api_token", "", "hf_" + "aBcDeFgHiJ" * 3, ""),
    ("api_token", "", "npm_" + "aB3" * 12, ""),
    ("api_token", "", "pypi-" + "AgEIcHlwaS5vcmc" * 4, ""),
    ("api_token", "", "SG." + "a" * 22 + "." + "b" * 43, ""),
    ("api_token", "AccountKey=", "aB3/" * 21 + "aB==", ";Endpoint"),
    ("private_key", "see:\n", PRIVATE_KEY, "\nthat"),
    ("private_key", "", PGP_KEY, ""),
    ("private_key", "", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNza", ""),
    ("jwt", "Bearer ", JWT, ""),
]

LEFT_ALONE = [
    "4111111111111112",
    "order 1234567890123456",
    "0.4111111111111111",
    "4111111111111111.5",
    "9999-4111-1111-1111-1111",
    "0000 0000 0000 0000",
    "DE89370400440532013001",
    "ZZ89370400440532013000",
    "DE8937040044053201300",
    "676188866500 and 502055658434",
    "my account number is 12345678, order number 676188866500",
    "a driver's license is needed in 2024; the licence number",
    "000-12-3456 666-12-3456 912-12-3456 123-00-4567 123-45-0000",
    "1-123-45-6789",
    "123456789",
    "a@b decorators @property pip install a@1.2.3",
    "git@github.com:org/repo.git",
    "call 911",
    "Phone 2024-01-15, call on 12/05/2024",
    "prices 100 200 300 and years 2019 2020 2021",
    "ISBN 978-3-16-148410-0",
    "01-02-2024 or 2024-01-02 12:30:45",
    "1234567890 9876543210",
    "pi is 3.14159265358979323846",
    "550e8400-e29b-41d4-a716-446655440000",
    "v1.2.3.4 and version 1.2.3.4 and 1.2.3.4.5",
    "127.0.0.1 0.0.0.0 255.255.255.0 256.1.1.1",
    "std::vector::abc dead::beef a1::b2 ::1 12:30:45",
    "1:9:36:84:126:126:84:36:9:1",
    "00:1B:44:11:3A:B7",
    "sk-learn-is-a-very-long-library-name",
    "eyJhbGciOiJIUzI1NiJ9 alone, eyJub3RqdXN0YQ.eyJub3RqdXN0YQ.x",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "risk-assessment task-force ghp_short AKIA",
]


@pytest.mark.parametrize(("kind", "before", "secret", "after"), FOUND)
def test_found_with_its_exact_span(kind: str, before: str, secret: str, after: str) -> None:
    for lead in (before, "é – 🏴 " + before):
        expected = [Match(kind, len(lead), len(lead) + len(secret))]
        assert find(lead + secret + after).matches == expected


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert find(text).matches == []


@pytest.mark.parametrize(("kind", "before", "secret", "after"), FOUND)
def test_the_trigger_occurs_wherever_the_pattern_matches(
    kind: str, before: str, secret: str, after: str
) -> None:
    text = before + secret + after
    triggered = [detector for detector in DETECTORS if re2.search(detector.trigger, text)]
    assert find(text, triggered).matches == find(text).matches


def test_several_kinds_come_in_order_without_overlap() -> None:
    text = f"joe@example.com, {GITHUB}; call +1 415 555 2671, card 4111 1111 1111 1111"
    assert [match.kind for match in find(text).matches] == [
        "email",
        "github_token",
        "phone",
        "credit_card",
    ]


def test_where_kinds_overlap_the_more_certain_one_counts() -> None:
    assert [m.kind for m in find("call 4111 1111 1111 1111").matches] == ["credit_card"]
    inside = PRIVATE_KEY.replace("ab==", GITHUB)
    assert find(inside).matches == [Match("private_key", 0, len(inside))]


def test_work_is_bounded() -> None:
    assert len(find("a@b.co " * 10, max_candidates=10).matches) == 10
    with pytest.raises(TooMuchPersonalDataError, match="more than 10"):
        find("a@b.co " * 11, max_candidates=10)


HOSTILE = {
    "digits": "4" * 262_144,
    "groups": "4111 " * 50_000,
    "emails": "a@b.co " * 35_000,
    "dots": "a." * 130_000 + "@",
    "begins": "-----BEGIN PRIVATE KEY-----" * 9_000,
    "tokens": "eyJaaaaaaaaaa." * 18_000,
    "calls": "call 1 " * 37_000,
    "colons": "1:" * 131_000,
    "ibans": "GB82 WEST 1234 " * 17_000,
    "aws": "aws secret key " * 17_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_more_than_linear_time(name: str) -> None:
    def look() -> None:
        with suppress(TooMuchPersonalDataError):
            find(HOSTILE[name])

    # Measured at some 25 ms each; a quadratic pattern would take minutes.
    assert least_cpu_s(look, 0.5, tries=2) < 0.5


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(FOUND))
def test_spans_are_characters_whatever_stands_before(
    noise: str, sample: tuple[str, str, str, str]
) -> None:
    kind, before, secret, after = sample
    lead = f"{noise}\n\n{before}"
    matches = [m for m in find(lead + secret + after).matches if m.start >= len(noise)]
    assert matches == [Match(kind, len(lead), len(lead) + len(secret))]


@given(st.text(alphabet="0123456789 .-@:+()/abAKIsk_", max_size=60))
def test_any_text_gives_ordered_disjoint_spans(text: str) -> None:
    at = 0
    for match in find(text).matches:
        assert at <= match.start < match.end <= len(text)
        assert re.search(r"\w", text[match.start : match.end])
        at = match.end
