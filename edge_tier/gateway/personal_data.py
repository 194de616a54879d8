"""Finds personal data and secrets in text: patterns in linear time, then a check of each candidate.

Patterns are RE2's, so no text can make them backtrack. Each detector has a cheap *trigger*; all
triggers are searched for at once (``sanitize``), and only detectors whose trigger occurs are run.
Phone numbers have no check digit, so a run of digits counts only where its shape (international
prefix, North American form, groups after a leading zero) or a word beside it says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import re2

from edge_tier.gateway import personal_checks as checks
from edge_tier.gateway.code_points import OTHER_DIGIT
from wire.errors import TooLargeError

MAX_CANDIDATES = 5_000
"""Default bound on the candidates that are checked in one text, some 5 µs each."""


class TooMuchPersonalDataError(TooLargeError):
    """More that looks like personal data than we want to check at once."""

    code = "too_much_personal_data"


class Match(NamedTuple):
    """Personal data of a kind, at character offsets."""

    kind: str
    start: int
    end: int


class Detector(NamedTuple):
    """How one kind is found.

    ``trigger`` must occur in any text in which a pattern matches. The span of a pattern's first
    group is the candidate (of the whole match where there is none). ``overlapping``: a candidate
    that fails its check may hide a good one that starts inside it.
    """

    kind: str
    trigger: str
    patterns: tuple[Any, ...]
    check: Callable[[bytes, int, int], checks.Span | None]
    overlapping: bool = False


def _detector(
    kind: str,
    trigger: str,
    patterns: Iterable[str],
    check: Callable[[bytes, int, int], checks.Span | None] = checks.as_found,
    *,
    overlapping: bool = False,
) -> Detector:
    compiled = tuple(re2.compile(pattern.encode()) for pattern in patterns)
    return Detector(kind, trigger, compiled, check, overlapping)


_SIX_DIGITS = r"\d[ ./()-]{0,2}" * 5 + r"\d"
_NUMBER = r"(\+?\(?\b\d{1,5}\)?(?:[ ./-]?\(?\d{2,8}\)?){1,5}(?:\s?(?:x|ext\.?)\s?\d{1,5})?)\b"
_LATIN = r"\p{Latin}\d"
"""Not every letter: where words are not spaced, a mail address begins at its Latin letters."""

OTHER_DIGITS = (
    "[" + "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in OTHER_DIGIT) + "＠．]"
)
"""RE2 pattern: text in which it finds nothing is written in ASCII's digits only."""
_ASCII_DIGITS = {
    code: str(unicodedata.digit(chr(code)))
    for low, high in OTHER_DIGIT
    for code in range(low, high + 1)
} | {ord("＠"): "@", ord("．"): ".", ord("－"): "-"}
_SLICE_CHARS = 32 * 1024
"""Python holds the GIL for one translation, some 1 ms."""

_HEX = r"[0-9A-Fa-f]{1,4}"
_PHONE_WORD = (
    r"(?:tele)?phone|tel|mobile|cell|cellphone|fax|call|dial|ring|text|whatsapp|sms"
    r"|(?:my|his|her|our|your|their|new|contact|office|home|work) number"
)
_PHONE_LINK = (
    r"(?:[:#.]|number|no|nr|num|me|us|him|her|them|at|on|is|are|was|it|to|under|via|back|\s)"
)

DETECTORS = (
    _detector(
        "private_key",
        r"PRIVATE KEY",
        # Single dashes are allowed inside; two end an unfinished block, so the scan never restarts.
        # So does a quote, which ends the string in JSON or a program.
        [
            r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-\"]|-[^-\"])*"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
        ],
    ),
    _detector(
        "jwt",
        r"\beyJ[\w-]",
        [r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"],
        checks.jwt,
    ),
    _detector(
        "aws_key",
        r"\bA(?:KIA|SIA)[A-Z2-7]|(?i:aws.{0,20}secret)",
        [
            r"\bA(?:KIA|SIA)[A-Z2-7]{16}\b",
            r"(?i:aws.{0,20}secret.{0,20}key)\W{1,6}([A-Za-z0-9/+]{40})\b",
        ],
    ),
    _detector("gcp_key", r"\bAIza|\bya29\.", [r"\bAIza[\w-]{35,}", r"\bya29\.[\w-]{20,}"]),
    _detector(
        "github_token",
        r"\bgh[opsur]_|\bgithub_pat_",
        [r"\bgh[opsur]_[A-Za-z0-9]{36,255}\b", r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"],
    ),
    _detector("openai_key", r"\bsk-\w", [r"\bsk-[\w-]{17,}"], checks.secret),
    _detector(
        "api_token",
        r"\bxox[a-z]-|\b[rs]k_(?:live|test)_|\bhf_|\bglpat-|\bnpm_|\bpypi-|\bSG\.|AccountKey=",
        [
            r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
            r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}\b",
            r"\bhf_[A-Za-z0-9]{30,}\b",
            r"\bglpat-[\w-]{20,}",
            r"\bnpm_[A-Za-z0-9]{36}\b",
            r"\bpypi-[\w-]{50,}",
            r"\bSG\.[\w-]{22}\.[\w-]{43}\b",
            r"\bAccountKey=([A-Za-z0-9+/]{86}==)",
        ],
    ),
    _detector(
        "email",
        r"[^\s@]@[^\s@]",
        [rf"[{_LATIN}_][{_LATIN}._%+-]*@(?:[{_LATIN}-]+\.)+[{_LATIN}]{{2,}}"],
        checks.email,
    ),
    _detector(
        "iban",
        r"\b[A-Za-z]{2}\d{2}[ -]?[A-Za-z0-9]{4}",
        [r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}"],
        checks.iban,
    ),
    _detector(
        "credit_card",
        r"\d{4}[ .-]?\d{4}[ .-]?\d{4}|\d{4}[ .-]\d{6}[ .-]\d{4}",
        [
            r"\b(?:[2-6]\d{12,18}|[2-6]\d{3}(?:[ .-]?\d{4}){3}(?:[ .-]\d{1,3})?"
            r"|3\d{3}[ .-]\d{6}[ .-]\d{4,5}|(?:1800|2131)\d{11})\b",
            # The shortest cards are as long as many other numbers.
            r"(?i)\bcard\b[^\d\n]{0,40}\b([56]\d{11})\b",
        ],
        checks.card,
        overlapping=True,
    ),
    _detector(
        "us_driver_license",
        r"(?i:driv\w+['’]?s? licen[cs]e)",
        [
            r"(?i)\bdriv(?:er['’]?s?|ing) licen[cs]e(?:[ :#]|number|no\b|is\b|nr\b){0,6}"
            r"\b([A-Z]{0,3}\d[A-Z\d-]{4,17})\b"
        ],
    ),
    _detector(
        "us_ssn",
        r"\d{3}[- ]?\d{2}[- ]?\d{4}",
        [
            r"\b\d{3}-\d{2}-\d{4}\b",
            r"(?i)(?:\bssn|social security)\D{0,24}\b(\d{3} ?\d{2} ?\d{4})\b",
        ],
        checks.us_ssn,
    ),
    _detector(
        "ip_address",
        r"\d\.\d{1,3}\.\d{1,3}\.\d",
        [r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"],
        checks.ipv4,
    ),
    _detector(
        "ip_address",
        rf"(?:{_HEX}:){{7}}|{_HEX}::{_HEX}",
        [
            rf"\b((?:{_HEX}:){{7}}{_HEX})\b",
            rf"\b({_HEX}(?::{_HEX}){{0,5}}::(?:{_HEX}:){{0,5}}{_HEX})\b",
        ],
        checks.ipv6,
    ),
    _detector(
        "phone",
        _SIX_DIGITS,
        [
            rf"(?i)\b(?:{_PHONE_WORD}|reach|answering|contact)s?\b{_PHONE_LINK}{{1,8}}{_NUMBER}",
            rf"(?i){_NUMBER}[ \-(,]{{1,3}}(?:office|home|work|mobile|cell|fax|landline)\b",
            r"(?:^|[^\w+])(\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?:x\d{1,5})?)\b",
            r"(?:^|[^\w.+-])((?:(?:001|1)[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
            r"(?:\s?x\d{1,5})?)\b",
            r"\b(0\d{1,4}(?:[ .-]\d{2,4}){3,4})\b",
        ],
        checks.phone,
    ),
)
"""In order of precedence: where two kinds overlap, the earlier one counts."""
KINDS = frozenset(detector.kind for detector in DETECTORS)
"""What ``Rules.personal_kinds`` may name."""


class Found(NamedTuple):
    """Personal data in order, not overlapping; and how many candidates were checked."""

    matches: list[Match]
    candidates: int


def find(
    text: str, detectors: Sequence[Detector] = DETECTORS, max_candidates: int = MAX_CANDIDATES
) -> Found:
    """Look for personal data in ``text``. Takes time linear in its length.

    Raises:
        TooMuchPersonalDataError: more than ``max_candidates`` to check.
    """
    data = text.encode()
    ranked: list[tuple[int, int, int, str]] = []
    checked = 0
    for rank, detector in enumerate(detectors):
        for start, end, passed in _candidates(data, detector):
            checked += 1
            if checked > max_candidates:
                raise TooMuchPersonalDataError(
                    f"more than {max_candidates} numbers or names to check for personal data; "
                    "send the text in smaller parts"
                )
            if passed:
                ranked.append((start, rank, end, detector.kind))
    chosen = _without_overlaps(ranked)
    if len(data) == len(text):
        return Found([Match(kind, start, end) for start, _, end, kind in chosen], checked)
    return Found(_in_characters(data, chosen), checked)


def with_ascii_digits(text: str) -> str:
    """The same text, character by character, with all digits written as ASCII's."""
    slices = (text[at : at + _SLICE_CHARS] for at in range(0, len(text), _SLICE_CHARS))
    return "".join([part.translate(_ASCII_DIGITS) for part in slices])


def _candidates(data: bytes, detector: Detector) -> Iterator[tuple[int, int, bool]]:
    """Each candidate, and whether it passed its check (then with the span that did)."""
    for pattern in detector.patterns:
        group = min(pattern.groups, 1)
        at = 0
        while (match := pattern.search(data, at)) is not None:
            start, end = match.span(group)
            found = detector.check(data, start, end)
            at = start + 1 if found is None and detector.overlapping else end
            yield (*(found or (start, end)), found is not None)


def _without_overlaps(
    ranked: list[tuple[int, int, int, str]],
) -> list[tuple[int, int, int, str]]:
    """Of spans that overlap, keep the one with the better rank; of equals, the first."""
    chosen: list[tuple[int, int, int, str]] = []
    for span in sorted(ranked):
        if not chosen or span[0] >= chosen[-1][2]:
            chosen.append(span)
        elif span[1] < chosen[-1][1]:
            chosen[-1] = span
    return chosen


def _in_characters(data: bytes, spans: list[tuple[int, int, int, str]]) -> list[Match]:
    """Byte offsets as character offsets, in one pass."""
    matches: list[Match] = []
    at = chars = 0
    for start, _, end, kind in spans:
        chars += len(data[at:start].decode())
        length = len(data[start:end].decode())
        matches.append(Match(kind, chars, chars + length))
        at, chars = end, chars + length
    return matches
