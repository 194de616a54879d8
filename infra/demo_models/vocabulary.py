"""The byte-level BPE tokenizer of the demo models, and dialogues as token ids.

All 256 bytes are in the vocabulary, so any text encodes. The text is cut by GPT-2's pattern, which
llama.cpp knows as `tokenizer.ggml.pre = gpt-2`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders

from infra.demo_models.corpus import Turn

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, IM_START, IM_END)
END_OF_TEXT_ID, IM_START_ID, IM_END_ID = range(3)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Piece:
    """A run of token ids; `taught` marks those that the model shall learn to write."""

    ids: list[int]
    taught: list[bool]


class Vocabulary:
    """A trained tokenizer with the marks of the ChatML template around its text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._newline = self.encode("\n")
        self._assistant = [IM_START_ID, *self.encode("assistant\n")]

    @classmethod
    def trained(cls, texts: Iterable[str], size: int) -> Vocabulary:
        """A vocabulary of `size` tokens, control tokens and bytes included, learnt from `texts`."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.decoder = token_decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            special_tokens=list(CONTROL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The ids of plain text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def message(self, role: str, content: str) -> list[int]:
        """The ids of one whole message of the template."""
        return [IM_START_ID, *self.encode(f"{role}\n{content}"), IM_END_ID, *self._newline]

    def system(self, content: str) -> Piece:
        """A system message; nothing of it is learnt."""
        ids = self.message("system", content)
        return Piece(ids, [False] * len(ids))

    def turn(self, turn: Turn) -> Piece:
        """A question and its answer; the answer and its end are learnt."""
        asked = self.message("user", turn.user) + self._assistant
        answer = [*self.encode(turn.assistant), IM_END_ID]
        taught = [False] * len(asked) + [True] * len(answer) + [False] * len(self._newline)
        return Piece([*asked, *answer, *self._newline], taught)

    def tokens_and_merges(self) -> tuple[list[str], list[str]]:
        """Tokens in the order of their ids and merges in the order of their rank."""
        plan = json.loads(self._tokenizer.to_str())["model"]
        tokens = sorted(plan["vocab"], key=plan["vocab"].__getitem__)
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in plan["merges"]]
        return tokens, merges
