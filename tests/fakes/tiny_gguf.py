"""GGUF files made on the spot: a tiny model that llama.cpp loads, and large ones that cost nothing.

The vocabulary is a byte-level BPE trained without word boundaries, so its merges run over them: a
pre-tokenizer that cuts one character off the right place yields other tokens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.fakes import raw_gguf

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NORMAL_TYPE, CONTROL_TYPE, USER_DEFINED_TYPE = 1, 3, 4

WHOLE_WORDS = ("Ġjumps", "Ġlazy", "Größe")
"""Tokens that no merge leads to: taken only where a word that is a token is taken whole."""

CORPUS = (
    "Hello, how are you doing today? I'm fine, they've said we'll go; you'd better come.",
    "The quick brown fox jumps over 13 lazy dogs in 2024, 3.14159 or 1,000,000 times.",
    "def main(argv):\n    for i in range(10):\n        print(f'{i}: {argv}')\n\n    return 0\n",
    "Größe und Maß: Straße, Fuß, schön, über. Œuvre, naïve, façade, garçon.",
    "Привет, мир! Как дела? Сегодня 15 июля.",
    "你好，世界！今天天气很好。東京は日本の首都です。안녕하세요 세계",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם नमस्ते दुनिया สวัสดีชาวโลก",
    "user\nassistant\nsystem\n\n\n\t\tindent  two   three    four\r\n\r\n",
    "🙂🙃👩‍👩‍👧 ok?! ... --- *** ### <<< >>> ((())) {} [] <tag> &amp; https://example.org/a?b=c#d",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, their GGUF types, and the merges in order of rank; or, for SentencePiece, the
    scores by id.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    scores: tuple[float, ...] = ()

    def id(self, token: str) -> int:
        return self.tokens.index(token)


@lru_cache
def train_vocabulary(
    size: int = 900, control: tuple[str, ...] = CONTROL, user_defined: tuple[str, ...] = ()
) -> Vocabulary:
    """A byte-level BPE of ``size`` tokens, with special tokens after them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator([line for line in CORPUS for _ in range(3)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merged = sorted(model["vocab"], key=model["vocab"].get)
    plain = [*merged, *(word for word in WHOLE_WORDS if word not in merged)]
    return Vocabulary(
        tokens=(*plain, *control, *user_defined),
        types=(
            *(NORMAL_TYPE for _ in plain),
            *(CONTROL_TYPE for _ in control),
            *(USER_DEFINED_TYPE for _ in user_defined),
        ),
        merges=tuple(" ".join(pair) for pair in model["merges"]),
    )


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    n_layer: int = 2,
    n_embd: int = 64,
    vocab: Vocabulary | None = None,
    pre: str = "gpt-2",
    chat_template: str | None = CHATML,
    context_length: int = 2048,
    metadata: Mapping[str, bool | int | str] | None = None,
) -> Path:
    """A LLaMA with random weights that llama.cpp loads and decodes. ``metadata`` adds keys."""
    vocab = vocab or train_vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(context_length)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(2 * n_embd)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(n_embd // 4)
    _add_tokenizer(writer, vocab, pre, chat_template)
    for key, value in (metadata or {}).items():
        _add_key(writer, key, value)
    for name, shape in _shapes(len(vocab.tokens), n_layer, n_embd).items():
        writer.add_tensor(name, _weights(name, shape, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_sparse_gguf(path: Path, size_bytes: int, *, tensor_bytes: int = 64 * 2**20) -> Path:
    """A valid GGUF of exactly ``size_bytes`` that takes hardly any disk: holes, and in every
    256 KiB its own number, so that no two chunks are alike. It is no model.

    ``tensor_bytes`` is a multiple of 32; the last tensor takes what is left over.
    """
    count = max(1, size_bytes // tensor_bytes)
    sizes = [tensor_bytes] * (count - 1)
    sizes.append(size_bytes - len(_sparse_header([*sizes, 0])) - sum(sizes))
    with path.open("wb") as stream:
        stream.write(_sparse_header(sizes))
        stream.truncate(size_bytes)
        for offset in range(2**18, size_bytes - 8, 2**18):
            os.pwrite(stream.fileno(), offset.to_bytes(8, "little"), offset)
    return path


def _sparse_header(sizes: list[int]) -> bytes:
    """A small llama's shape, and a table of one-dimensional I8 tensors, one after the other."""
    numbers = {
        "block_count": len(sizes),
        "embedding_length": 64,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "context_length": 4_096,
    }
    keys = [raw_gguf.text_key("general.architecture", "llama")]
    keys += [raw_gguf.u32_key(f"llama.{name}", value) for name, value in numbers.items()]
    tensors = []
    offset = 0
    for index, size in enumerate(sizes):
        tensors.append(raw_gguf.tensor(f"blk.{index:05d}.ffn_up.weight", (size,), 24, offset))
        offset += size
    return raw_gguf.header(keys, tensors)


def _add_tokenizer(
    writer: gguf.GGUFWriter, vocab: Vocabulary, pre: str, chat_template: str | None
) -> None:
    writer.add_tokenizer_model("llama" if vocab.scores else "gpt2")
    writer.add_tokenizer_pre("default" if vocab.scores else pre)
    writer.add_token_list(list(vocab.tokens))
    writer.add_token_types(list(vocab.types))
    if vocab.scores:
        writer.add_token_scores(list(vocab.scores))
    else:
        writer.add_token_merges(list(vocab.merges))
    if "<|endoftext|>" in vocab.tokens:
        writer.add_bos_token_id(vocab.id("<|endoftext|>"))
    if "<|im_end|>" in vocab.tokens:
        writer.add_eos_token_id(vocab.id("<|im_end|>"))
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _add_key(writer: gguf.GGUFWriter, key: str, value: bool | int | str) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_string(key, value)


def _shapes(n_vocab: int, n_layer: int, n_embd: int) -> dict[str, tuple[int, ...]]:
    """Rows first, as numpy has them; two of four heads carry keys and values."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd)}
    for layer in range(n_layer):
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm": (n_embd,),
            "attn_q": (n_embd, n_embd),
            "attn_k": (n_embd // 2, n_embd),
            "attn_v": (n_embd // 2, n_embd),
            "attn_output": (n_embd, n_embd),
            "ffn_norm": (n_embd,),
            "ffn_gate": (2 * n_embd, n_embd),
            "ffn_up": (2 * n_embd, n_embd),
            "ffn_down": (n_embd, 2 * n_embd),
        }
        shapes.update({f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()})
    shapes["output_norm.weight"] = (n_embd,)
    return shapes


def _weights(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random but repeatable, and a tensor's own: a new layer leaves the others as they are."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    source = np.random.default_rng([seed, *name.encode()])
    return (source.standard_normal(shape) * 0.05).astype(np.float32)
