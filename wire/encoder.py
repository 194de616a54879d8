"""Text and special tokens to ids, exactly as llama.cpp's BPE and SentencePiece give them.

Words and texts that are known need no work (``wire.word_cache``); other
runs go to the ``tokenizers`` library, whose file lists no special token: only ids that are
already pieces come out as control tokens. Runs of white space that are tokens of their own (type
USER_DEFINED) are cut out of every text first, as llama.cpp does whatever ``parse_special`` says.

A SentencePiece tokenizer puts a space before every run of text. Between two runs there is always a
special token, so that is where llama.cpp puts them too: at the beginning and after special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from wire.bundle import MAX_TOKENIZER_BYTES, TOKENIZER_PATH, BundleInvalidError, ModelCard
from wire.errors import RequestInvalidError
from wire.specials import Piece, Specials
from wire.word_cache import WordCache
from wire.word_cut import cut_of


class Encoder:
    """One model's tokenizer. Safe to share between threads; the GIL is free while it encodes.

    Raises:
        BundleInvalidError: the tokenizer file is too large, malformed, or contradicts the card.
    """

    def __init__(self, tokenizer: bytes, card: ModelCard) -> None:
        if len(tokenizer) > MAX_TOKENIZER_BYTES:
            raise BundleInvalidError(f"{TOKENIZER_PATH} of {len(tokenizer)} B is too large")
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
        except Exception as error:  # the library raises nothing more exact
            raise BundleInvalidError(f"{TOKENIZER_PATH} is malformed: {error}") from error
        for token in card.control_literals:
            if self._tokenizer.id_to_token(token.id) is not None:
                raise BundleInvalidError(f"{TOKENIZER_PATH} can give the control token {token.id}")
        self._specials = Specials(card.control_literals)
        self._plain = {token.text: token.id for token in card.plain_literals}
        longest_first = sorted(self._plain, key=len, reverse=True)
        pattern = "|".join(re.escape(text) for text in longest_first)
        self._plain_pattern = re.compile(f"({pattern})") if pattern else None
        self._head = [card.bos.id] if card.add_bos and card.bos else []
        self._tail = [card.eos.id] if card.add_eos and card.eos else []
        self._constants: dict[str, Sequence[int]] = {}
        self._words = WordCache(self._by_library, cut_of(tokenizer))

    def remember(self, texts: Iterable[str]) -> None:
        """Encode texts now that will be asked for again and again. Only for a template's own
        texts: what is remembered is never forgotten.
        """
        for text in texts:
            self._constants[text] = self._run(text)

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """The ids of a prompt, with the BOS and EOS that the model asks for.

        Args:
            pieces: no two texts side by side.

        Raises:
            RequestInvalidError: a text that is no Unicode (a lone surrogate).
        """
        if self._plain_pattern is not None:
            pieces = self._split_plain(pieces)
        known = self._constants
        ids = list(self._head)
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids += known[piece] if piece in known else self._run(piece)
        ids += self._tail
        return ids

    @property
    def cuts(self) -> bool:
        """Whether texts are cut into words that are remembered."""
        return self._words.cuts

    def split(self, text: str) -> Sequence[Piece]:
        """The text as :meth:`encode_parsed` cuts it: runs of text between special tokens."""
        return self._split_plain(self._specials.partition(text))

    def encode_parsed(self, text: str) -> list[int]:
        """The ids of a text in which special tokens count, without BOS and EOS; never for content.

        This is llama.cpp's ``/tokenize`` with ``parse_special`` and without ``add_special``.
        """
        return self._bare(self.encode(self._specials.partition(text)))

    def encode_plain(self, text: str) -> list[int]:
        """The ids of a text in which nothing is a special token, without BOS and EOS."""
        return self._bare(self.encode([text]))

    def _bare(self, ids: list[int]) -> list[int]:
        return ids[len(self._head) : len(ids) - len(self._tail)]

    def _split_plain(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        if self._plain_pattern is None:
            return pieces
        split: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, int):
                split.append(piece)
            else:
                parts = self._plain_pattern.split(piece)
                split.extend(self._plain.get(part, part) for part in parts if part)
        return split

    def _run(self, text: str) -> Sequence[int]:
        try:
            return self._words.encode(text)
        except TypeError as error:
            raise RequestInvalidError("the prompt holds a lone surrogate; send Unicode") from error

    def _by_library(self, text: str) -> list[int]:
        """Ids of one text; a batch of one, because that leaves out the offsets."""
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoded[0].ids
        return ids
