"""Checks that tell personal data from what merely looks like it.

Each takes a text as UTF-8 and the span of a candidate in it, and returns the span that is personal
data, or None. Sources: ISO/IEC 7812-1 annex B (Luhn), ISO 13616 (IBAN, mod 97 and national
lengths), the SSA's rules for numbers issued since 2011, RFC 4291 (IPv6), RFC 7519 (JWT).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

import msgspec

Span = tuple[int, int]

_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_NOT_DIGIT = re.compile(rb"\D+")
_CARD_PREFIX = re.compile(
    rb"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720|131)|3(?:[4-9]|0[0-5])|1800"
    rb"|6(?:011|2|3|4[4-9]|5|7)"
)
_FOUR_GROUPS = re.compile(rb"\d{4}(?:[ .-]?\d{4}){3}")
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTH = {
    country.encode(): length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split()
}
_DATE = re.compile(
    rb"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:0?[1-9]|[12]\d|3[01])"
    rb"|(?:0?[1-9]|[12]\d|3[01])[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:19|20)\d\d"
)
_EXTENSION = re.compile(rb"\s?(?:x|ext\.?)\s?\d+\Z")
_COLON_HEX = re.compile(rb":[0-9A-Fa-f]")
_PHONE_DIGITS = range(6, 16)
_MIN_SECRET_CHARS = 20
_MIN_IPV6_COLONS = 3


def card(data: bytes, start: int, end: int) -> Span | None:
    """The last group of a candidate may be another number that follows the card's four."""
    four = _FOUR_GROUPS.match(data, start, end)
    for stop in {end, four.end() if four else end}:
        digits = _NOT_DIGIT.sub(b"", data[start:stop])
        known = _CARD_PREFIX.match(digits) is not None
        if known and luhn(digits) and not _within_longer_number(data, start, stop):
            return start, stop
    return None


def luhn(digits: bytes) -> bool:
    """Whether the last digit checks the others, and they are not all the same."""
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - 48 * len(digits)
    return total % 10 == 0 and len(set(digits)) > 1


def iban(data: bytes, start: int, end: int) -> Span | None:
    """The candidate may run on into the next words; the country says how long it is."""
    length = _IBAN_LENGTH.get(data[start : start + 2].upper())
    places = [at for at in range(start, end) if data[at : at + 1].isalnum()]
    if length is None or len(places) < length:
        return None
    end = places[length - 1] + 1
    text = bytes(data[at] for at in places[:length]).upper()
    number = "".join(str(int(chr(char), 36)) for char in text[4:] + text[:4])
    if data[end : end + 1].isalnum() or int(number) % 97 != 1:
        return None
    return start, end


def us_ssn(data: bytes, start: int, end: int) -> Span | None:
    digits = _NOT_DIGIT.sub(b"", data[start:end])
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in (b"000", b"666") or area >= b"900" or group == b"00" or serial == b"0000":
        return None
    return None if _within_longer_number(data, start, end) else (start, end)


def phone(data: bytes, start: int, end: int) -> Span | None:
    number = _EXTENSION.sub(b"", data[start:end])
    if len(_NOT_DIGIT.sub(b"", number)) not in _PHONE_DIGITS or _DATE.fullmatch(number):
        return None
    return None if _within_longer_number(data, start, end) else (start, end)


def ipv4(data: bytes, start: int, end: int) -> Span | None:
    """Loopback, this-network and broadcast addresses are nobody's; so are versions."""
    octets = [int(part) for part in data[start:end].split(b".")]
    nobody = octets[0] in (0, 127, 255) or max(octets) > 255
    version = data[max(0, start - 9) : start].lower().rstrip().endswith(b"version")
    return None if nobody or version or _within_longer_number(data, start, end) else (start, end)


def ipv6(data: bytes, start: int, end: int) -> Span | None:
    text = data[start:end].decode()
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    # Two hexadecimal words around "::" are as likely a path in a program.
    unlikely = text.count(":") < _MIN_IPV6_COLONS or not any(char.isdigit() for char in text)
    longer = data[start - 1 : start] == b":" or _COLON_HEX.match(data, end)
    return None if unlikely or longer or address.is_loopback else (start, end)


def email(data: bytes, start: int, end: int) -> Span | None:
    """``git@host:path`` names a repository, not a person."""
    repository = data[start : start + 4] == b"git@" and data[end : end + 1] == b":"
    return None if repository else (start, end)


def secret(data: bytes, start: int, end: int) -> Span | None:
    """Made keys mix letters and digits; words joined by dashes do not."""
    text = data[start:end]
    mixed = any(48 <= char <= 57 for char in text) and text != text.lower()
    return (start, end) if mixed and len(text) >= _MIN_SECRET_CHARS else None


def jwt(data: bytes, start: int, end: int) -> Span | None:
    head = data[start:end].partition(b".")[0]
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return (start, end) if isinstance(header, dict) and "alg" in header else None


def as_found(_data: bytes, start: int, end: int) -> Span:
    """No check: the pattern alone is proof enough."""
    return start, end


def _within_longer_number(data: bytes, start: int, end: int) -> bool:
    """Whether digits go on before or after, also past a dot or dash."""
    before, after = data[max(0, start - 2) : start], data[end : end + 2]
    return (
        before[-1:].isdigit()
        or after[:1].isdigit()
        or (
            (before[-1:] in (b".", b"-") and before[:1].isdigit())
            or (after[:1] in (b".", b"-") and after[1:].isdigit())
        )
    )
