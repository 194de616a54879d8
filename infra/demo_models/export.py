"""Trained weights as a GGUF file that llama.cpp runs.

Source: the GGUF specification (ggml-org/ggml docs/gguf.md), through the `gguf` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy
import torch

from infra.demo_models import model, vocabulary
from infra.demo_models.model import Shape, Weights
from infra.demo_models.vocabulary import CONTROL_TOKENS, Vocabulary


@dataclass(frozen=True)
class Card:
    """What a file says about itself; `kind` is F16 or Q8_0."""

    name: str
    version: str
    description: str
    size_label: str
    kind: str = "F16"


def write(path: Path, weights: Weights, shape: Shape, words: Vocabulary, card: Card) -> None:
    """Writes the model to `path`; tensors stand in the order of `model.tensor_shapes`."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, card)
    _measure(writer, shape, card)
    _tokenize(writer, words)
    for name in model.tensor_shapes(shape):
        values = weights[name].detach().numpy().astype(numpy.float32)
        if values.ndim == 1:
            writer.add_tensor(name, values)
        elif card.kind == "F16":
            writer.add_tensor(name, values.astype(numpy.float16))
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> Weights:
    """The tensors of an F16 file that `write` made, as 32-bit numbers."""
    found: Weights = {}
    for tensor in gguf.GGUFReader(path).tensors:
        found[tensor.name] = torch.from_numpy(numpy.array(tensor.data, dtype=numpy.float32))
    return found


def _describe(writer: gguf.GGUFWriter, card: Card) -> None:
    writer.add_type("model")
    writer.add_name(card.name)
    writer.add_version(card.version)
    writer.add_author("The Headwater authors")
    writer.add_organization("Headwater")
    writer.add_description(card.description)
    writer.add_license("Apache-2.0")
    writer.add_size_label(card.size_label)
    writer.add_languages(["en"])


def _measure(writer: gguf.GGUFWriter, shape: Shape, card: Card) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    quantized = card.kind != "F16"
    kind = gguf.LlamaFileType.MOSTLY_Q8_0 if quantized else gguf.LlamaFileType.MOSTLY_F16
    writer.add_file_type(kind)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _tokenize(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    tokens, merges = words.tokens_and_merges()
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in CONTROL_TOKENS else normal for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(vocabulary.END_OF_TEXT_ID)
    writer.add_eos_token_id(vocabulary.IM_END_ID)
    writer.add_pad_token_id(vocabulary.END_OF_TEXT_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(vocabulary.CHAT_TEMPLATE)
