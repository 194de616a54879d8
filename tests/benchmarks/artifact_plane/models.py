"""Model files of any size for the benchmarks: valid, dense, and of known differences.

No engine could answer with them. Their header is as large as that of a model with a vocabulary of
150,000 tokens, because that is what an edit of the metadata must not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

VOCABULARY = 150_000
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model file.

    Args:
        size: of all tensors together, in bytes.
        seeds: layer → seed; a layer with another seed has other bytes.
    """

    size: int
    layers: int = 24
    template: str = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    vocabulary: int = VOCABULARY
    seeds: Mapping[int, int] = field(default_factory=dict)

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer's tensor; a multiple of the alignment."""
        return self.size // self.layers // 4096 * 4096


def write_model(path: Path, spec: ModelSpec) -> Path:
    """Write the file; the same specification gives the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("bench")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(4096)
    writer.add_embedding_length(4096)
    writer.add_block_count(spec.layers)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("of-the-benchmark")  # none that an edge knows: left to the engine
    writer.add_token_list([f"Ġtoken{number}" for number in range(spec.vocabulary)])
    writer.add_token_types([1] * spec.vocabulary)
    writer.add_token_merges([f"Ġtoken {number}" for number in range(spec.vocabulary)])
    writer.add_chat_template(spec.template)
    for layer in range(spec.layers):
        name, count = f"blk.{layer}.ffn_up.weight", spec.layer_bytes // 4
        writer.add_tensor_info(name, [count], np.dtype(np.float32), spec.layer_bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    _append_tensors(path, spec)
    return path


def _append_tensors(path: Path, spec: ModelSpec) -> None:
    """Every block is the same noise under another mask: unlike all others, and quickly made."""
    noise = np.random.default_rng(0).integers(2**63, size=_BLOCK_BYTES // 8, dtype=np.uint64)
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        stream.write(bytes(-stream.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
        for layer in range(spec.layers):
            for index, offset in enumerate(range(0, spec.layer_bytes, _BLOCK_BYTES)):
                mask = np.uint64(spec.seeds.get(layer, 0) << 48 | layer << 32 | index + 1)
                block = (noise ^ mask).tobytes()
                stream.write(block[: spec.layer_bytes - offset])
