"""The edge bundle of a revision: all that an edge reads of a model, and never the weights.

``tokenizer.json`` is for the ``tokenizers`` library and lists no special token, so nothing in a
text can become one. ``model.json`` is the :class:`ModelCard`: special tokens, template, limits.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.errors import HeadwaterError

FORMAT = "headwater.model/1"
TOKENIZER_PATH = "tokenizer.json"
CARD_PATH = "model.json"
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
MAX_CARD_BYTES = 8 * 1024 * 1024


class BundleInvalidError(HeadwaterError):
    """Bundle bytes that are malformed or contradict each other."""

    status = 422
    code = "bundle_invalid"


class SpecialToken(msgspec.Struct, frozen=True, array_like=True):
    """A token with a text of its own in the vocabulary."""

    text: str
    id: int


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge must know of a model.

    ``tokenizer`` and ``template`` are ``exact`` only where the edge gives the very ids that
    llama.cpp gives; ``engine`` means that the engine must do it, and ``reasons`` says why.
    ``template`` is ``none`` where the model has none: it completes text, it does not chat.
    """

    format: str = FORMAT
    architecture: str
    name: str
    context_length: int
    """Tokens of prompt and answer together."""
    parameters: int
    quantization: str
    """As llama.cpp calls the file's type: ``Q5_K_M``, ``F16``, …"""
    vocab_size: int
    tokenizer: Literal["exact", "engine"]
    template: Literal["exact", "engine", "none"]
    reasons: tuple[str, ...] = ()
    chat_template: str = ""
    system_role: bool = True
    """Whether the template shows system messages; if not, they go into the next message."""
    enable_thinking: bool = True
    """What the template finds under this name, as the engine gives it."""
    bos: SpecialToken | None = None
    eos: SpecialToken | None = None
    eot: SpecialToken | None = None
    add_bos: bool = False
    add_eos: bool = False
    control_literals: tuple[SpecialToken, ...] = ()
    """Every token that only the template may write: found in content, its text is plain text."""
    plain_literals: tuple[SpecialToken, ...] = ()
    """Runs of white space that are tokens of their own, in content too."""


_card_encoder = msgspec.json.Encoder(order="sorted")
_card_decoder = msgspec.json.Decoder(ModelCard)


def encode_card(card: ModelCard) -> bytes:
    """The bytes of ``model.json``; the same card gives the same bytes."""
    return _card_encoder.encode(card)


def decode_card(data: bytes) -> ModelCard:
    """Read ``model.json``.

    Raises:
        BundleInvalidError: too large, malformed, or of another format.
    """
    if len(data) > MAX_CARD_BYTES:
        raise BundleInvalidError(f"{CARD_PATH} of {len(data)} B is over {MAX_CARD_BYTES} B")
    try:
        card = _card_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleInvalidError(f"{CARD_PATH} is malformed: {error}") from error
    if card.format != FORMAT:
        raise BundleInvalidError(f"{CARD_PATH} has format {card.format[:80]!r}, not {FORMAT!r}")
    if card.context_length < 1:
        raise BundleInvalidError(f"{CARD_PATH} has a context of {card.context_length} tokens")
    return card
