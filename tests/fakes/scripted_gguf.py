"""A LLaMA whose answer is written in its weights, so that a test knows every token beforehand.

Attention and feed-forward give zero, the embedding is one-hot, and the output matrix maps each
token to its successor: greedy decoding walks through the script's bytes, one token a byte, over and
over. The bytes of a script must differ, because the last token is all that the model knows.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

SCRIPT = "helo wörd🌊"
"""Two characters of it are several tokens each."""

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BOS, EOS, USER, ASSISTANT = 256, 257, 258, 259
_EMBEDDING = 320
_FEED_FORWARD = 32


def write_scripted_gguf(
    path: Path,
    script: str = SCRIPT,
    *,
    ends: bool = False,
    context_length: int = 4_096,
    rms_epsilon: float = 1e-5,
    weight: float = 1.0,
    template: str = TEMPLATE,
    architecture: str = "llama",
) -> Path:
    """A model that answers ``script``, again and again, or once where it ``ends``.

    Hostile variants: a negative ``rms_epsilon`` aborts llama.cpp while it loads, ``context_length``
    0 crashes it at the first request, a ``weight`` of NaN makes every probability NaN, and an
    ``architecture`` that it does not know is refused.
    """
    steps = script.encode()
    assert len(set(steps)) == len(steps), "a byte of the script stands twice"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("scripted")
    writer.add_context_length(context_length)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(_EMBEDDING // 4)
    writer.add_layer_norm_rms_eps(rms_epsilon)
    tokens = _add_tokenizer(writer, template)
    writer.add_tensor("token_embd.weight", np.eye(tokens, _EMBEDDING, dtype=np.float32))
    writer.add_tensor("output.weight", _successors(steps, tokens, ends=ends) * np.float32(weight))
    writer.add_tensor("output_norm.weight", np.ones(_EMBEDDING, np.float32))
    for name, shape in _silent_layer().items():
        fill = np.ones if name.endswith("norm") else np.zeros
        writer.add_tensor(f"blk.0.{name}.weight", fill(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, template: str) -> int:
    """One token a byte, four control tokens, and one merge, because llama.cpp asks for some."""
    control = ["<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]
    tokens = [*_byte_tokens(), *control, "qx"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * 4 + [1])
    writer.add_token_merges(["q x"])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    return len(tokens)


def _byte_tokens() -> list[str]:
    """The 256 characters that stand for bytes, in the order of the bytes (GPT-2's alphabet):
    printable Latin-1 for itself, the others in their order from U+0100 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [code for code in range(256) if code not in own]
    stand_ins = {code: chr(0x100 + index) for index, code in enumerate(others)}
    return [stand_ins.get(code, chr(code)) for code in range(256)]


def _successors(steps: bytes, tokens: int, *, ends: bool) -> np.ndarray:
    """Row: next token; column: last token. Whatever is not of the script leads to its start."""
    output = np.zeros((tokens, _EMBEDDING), np.float32)
    follower = dict.fromkeys(range(tokens), steps[0])
    follower |= dict(pairwise(steps))
    follower[steps[-1]] = EOS if ends else steps[0]
    for token, following in follower.items():
        output[following, token] = 1.0
    return output


def _silent_layer() -> dict[str, tuple[int, ...]]:
    square = (_EMBEDDING, _EMBEDDING)
    return {
        "attn_norm": (_EMBEDDING,),
        "attn_q": square,
        "attn_k": square,
        "attn_v": square,
        "attn_output": square,
        "ffn_norm": (_EMBEDDING,),
        "ffn_gate": (_FEED_FORWARD, _EMBEDDING),
        "ffn_up": (_FEED_FORWARD, _EMBEDDING),
        "ffn_down": (_EMBEDDING, _FEED_FORWARD),
    }
