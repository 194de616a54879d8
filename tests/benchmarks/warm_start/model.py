"""A model of any size that llama.cpp really loads and that gives a first token.

Random weights in the shape of a 1B LLaMA (rows of 2,048, four times as wide inside, grouped heads),
as many layers as the size asks for, in F16. Its vocabulary has the words of the question whole, as
any real one has, so that a question of five words costs five tokens.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.fakes.tiny_gguf import CHATML, Vocabulary, train_vocabulary

QUESTION = "The capital of France is"
_WIDTH, _INSIDE, _HEADS, _KV_HEADS = 2_048, 8_192, 32, 8
_TOKENS = 32_000
_BLOCK = 1 << 20
"""Values that are made at once; each block is the same noise with other low bits."""


def write_loadable(path: Path, size: int, *, template: str = CHATML) -> Path:
    """Write a model of about ``size`` bytes; the same arguments give the same bytes, and another
    template changes nothing but the header."""
    vocabulary = _with_words(train_vocabulary(), QUESTION)
    layers = max(1, round((size - 2 * _TOKENS * _WIDTH) / _layer_bytes()))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("bench")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(8_192)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_INSIDE)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_bos_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.id("<|im_end|>"))
    writer.add_chat_template(template)
    shapes = _shapes(layers)
    for name, shape in shapes.items():
        kind, count = (np.float32, 4) if len(shape) == 1 else (np.float16, 2)
        writer.add_tensor_info(name, list(shape), np.dtype(kind), int(np.prod(shape)) * count)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    _append(path, shapes)
    return path


def _layer_bytes() -> int:
    return 2 * sum(int(np.prod(shape)) for shape in _layer().values())


def _layer() -> dict[str, tuple[int, ...]]:
    keys = _WIDTH * _KV_HEADS // _HEADS
    return {
        "attn_norm": (_WIDTH,),
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (keys, _WIDTH),
        "attn_v": (keys, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_norm": (_WIDTH,),
        "ffn_gate": (_INSIDE, _WIDTH),
        "ffn_up": (_INSIDE, _WIDTH),
        "ffn_down": (_WIDTH, _INSIDE),
    }


def _shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Rows first, as numpy has them; every size is a multiple of the alignment."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (_TOKENS, _WIDTH)}
    for layer in range(layers):
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in _layer().items()}
    return shapes | {"output_norm.weight": (_WIDTH,)}


def _append(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    noise = np.random.default_rng(0).standard_normal(_BLOCK) * 0.02
    block = noise.astype(np.float16).view(np.uint64)
    number = 0
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        stream.write(bytes(-stream.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
        for shape in shapes.values():
            if len(shape) == 1:
                stream.write(np.ones(shape, np.float32).tobytes())
                continue
            left = 2 * int(np.prod(shape))
            while left > 0:
                number += 1
                # Of four values the lowest bits change: no two blocks are alike, all stay small.
                mask = np.uint64((number & 0xFF) | (number >> 8 & 0xFF) << 16)
                stream.write((block ^ mask).tobytes()[:left])
                left -= 2 * _BLOCK


def _with_words(plain: Vocabulary, text: str) -> Vocabulary:
    """The vocabulary with every word of a text whole, filled up to its size."""
    words = [word if number == 0 else f"Ġ{word}" for number, word in enumerate(text.split())]
    merges: dict[str, None] = {}
    tokens: dict[str, None] = {}
    for word in words:
        for end in range(2, len(word) + 1):
            merges[f"{word[: end - 1]} {word[end - 1]}"] = None
            tokens[word[:end]] = None
    new = [token for token in tokens if token not in plain.tokens]
    fill = [f"Ġfill{number}" for number in range(_TOKENS - len(plain.tokens) - len(new))]
    return Vocabulary(
        tokens=(*plain.tokens, *new, *fill),
        types=(*plain.types, *(1 for _ in (*new, *fill))),
        # First in rank: no other merge takes a letter away.
        merges=(*merges, *(merge for merge in plain.merges if merge not in merges)),
    )
