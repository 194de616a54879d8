"""The card of a model: one byte form, and nothing malformed gets in."""

from __future__ import annotations

import msgspec
import pytest

from wire.bundle import (
    MAX_CARD_BYTES,
    BundleInvalidError,
    ModelCard,
    SpecialToken,
    decode_card,
    encode_card,
)

CARD = ModelCard(
    architecture="llama",
    name="tiny",
    context_length=2_048,
    parameters=100_000,
    quantization="Q5_K_M",
    vocab_size=900,
    tokenizer="exact",
    template="exact",
    chat_template="{{ messages }}",
    bos=SpecialToken("<s>", 1),
    add_bos=True,
    control_literals=(SpecialToken("<s>", 1), SpecialToken("</s>", 2)),
)


def test_a_card_survives_its_bytes() -> None:
    data = encode_card(CARD)
    assert decode_card(data) == CARD
    assert encode_card(decode_card(data)) == data
    assert b'"control_literals":[["<s>",1],["</s>",2]]' in data


def test_a_card_of_another_format_is_refused() -> None:
    data = encode_card(msgspec.structs.replace(CARD, format="headwater.model/9"))
    with pytest.raises(BundleInvalidError, match=r"format 'headwater\.model/9'"):
        decode_card(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", b"[" * 100_000,
        encode_card(CARD).replace(b'"exact"', b'"perhaps"', 1),
        encode_card(CARD).replace(b"2048", b"0"),
        encode_card(CARD).replace(b'["<s>",1]', b'["<s>"]'),
        b" " * (MAX_CARD_BYTES + 1),
    ],
)  # fmt: skip
def test_a_malformed_card_is_refused(data: bytes) -> None:
    with pytest.raises(BundleInvalidError, match=r"model\.json"):
        decode_card(data)
