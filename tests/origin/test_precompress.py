from __future__ import annotations

import gzip
import random

import cramjam
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.precompress import MAX_WINDOW_BYTES, PrecompressConfig, compressed

CONFIG = PrecompressConfig()
TEXT = b"Each line says something else, and most words come again. %d\n"
PAGE = b"".join(TEXT % number for number in range(200))


def test_every_form_unpacks_to_the_file() -> None:
    forms = dict(compressed(PAGE, CONFIG))
    assert list(forms) == ["gzip", "br", "zstd"]
    assert gzip.decompress(forms["gzip"]) == PAGE
    assert bytes(cramjam.brotli.decompress(forms["br"])) == PAGE
    assert bytes(cramjam.zstd.decompress(forms["zstd"])) == PAGE


def test_gzip_says_no_time_and_no_name() -> None:
    flags, time = dict(compressed(PAGE, CONFIG))["gzip"][3], dict(compressed(PAGE, CONFIG))["gzip"]
    assert flags == 0
    assert time[4:8] == bytes(4)


def test_the_same_file_gives_the_same_forms() -> None:
    assert list(compressed(PAGE, CONFIG)) == list(compressed(PAGE, CONFIG))


def test_what_saves_little_is_not_kept() -> None:
    assert list(compressed(random.Random(1).randbytes(50_000), CONFIG)) == []
    mixed = random.Random(1).randbytes(47_000) + bytes(1_500)  # saves 3 %
    assert list(compressed(mixed, CONFIG)) == []
    mixed = random.Random(1).randbytes(47_000) + bytes(4_000)  # saves 8 %
    assert len(list(compressed(mixed, CONFIG))) == 3


def test_small_and_large_files_are_left_alone() -> None:
    assert list(compressed(b"a" * 1_023, CONFIG)) == []
    assert len(list(compressed(b"a" * 1_024, CONFIG))) == 3
    small = PrecompressConfig(max_bytes=2_000)
    assert list(compressed(b"a" * 2_001, small)) == []
    assert list(compressed(bytes(MAX_WINDOW_BYTES + 1), PrecompressConfig(max_bytes=10**9))) == []


def test_a_browser_can_look_back_far_enough() -> None:
    """The window that a zstd frame asks for (RFC 8878 section 3.1.1.1.2) is one that RFC 9659
    lets every browser have."""
    data = b"".join(random.Random(2).randbytes(64) * 2 for _ in range(60_000))[:MAX_WINDOW_BYTES]
    frame = dict(compressed(data, CONFIG))["zstd"]
    single = frame[4] & 0x20
    assert not single
    exponent, mantissa = frame[5] >> 3, frame[5] & 7
    base = 1 << (10 + exponent)
    assert base + (base >> 3) * mantissa <= MAX_WINDOW_BYTES


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=64), st.integers(20, 200))
def test_any_content_comes_back(piece: bytes, times: int) -> None:
    data = piece * times
    for coding, form in compressed(data, CONFIG):
        library = {"gzip": cramjam.gzip, "br": cramjam.brotli, "zstd": cramjam.zstd}[coding]
        assert bytes(library.decompress(form)) == data
        assert len(form) < len(data) * 0.95
