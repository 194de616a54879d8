"""The BPE pre-tokenizers that this project reproduces exactly, by their name in GGUF.

Each is the regular expression of llama.cpp (``llama-vocab.cpp``) in the dialect of the
``tokenizers`` library (Oniguruma), with one difference: letters and digits that came with
Unicode 16 are none, because llama.cpp's tables end with Unicode 15.1. The tests prove every name
here against llama.cpp, and the classes of characters over the planes where scripts are. A name
that is not here is left to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

_NEW_LETTERS = (
    "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 "
    "1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C "
    "18CFF 1E5D0-1E5ED 1E5F0"
)
_NEW_DIGITS = "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA"


def _ranges(text: str) -> str:
    return "".join(
        "-".join(f"\\x{{{bound}}}" for bound in part.split("-")) for part in text.split()
    )


_L = rf"[\p{{L}}&&[^{_ranges(_NEW_LETTERS)}]]"
_N = rf"[\p{{N}}&&[^{_ranges(_NEW_DIGITS)}]]"
_WORD_ENDS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?{_L}+| ?{_N}+| ?[^\s{_L}{_N}]+|\s+(?!\S)|\s+"
_REST = rf" ?[^\s{_L}{_N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_WORD_ENDS}|[^\r\n{_L}{_N}]?{_L}+|{_N}{{1,3}}|{_REST}"
_QWEN2 = rf"{_WORD_ENDS}|[^\r\n{_L}{_N}]?{_L}+|{_N}|{_REST}"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How a text is cut into words before merging, and what the name implies besides.

    ``patterns`` are applied one after the other, each to the pieces of the one before.
    ``ignore_merges``: a word that is a token is taken whole. ``add_bos``: the default.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_FAMILIES: tuple[tuple[PreTokenizer, tuple[str, ...]], ...] = (
    (PreTokenizer((_GPT2,)), ("gpt-2", "phi-2", "mpt", "olmo")),
    (PreTokenizer((_N, _GPT2)), ("smollm", "starcoder", "command-r")),
    (
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
        ("llama-bpe", "llama3", "falcon3", "pixtral", "lfm2"),
    ),
    (PreTokenizer((_LLAMA3,)), ("dbrx", "smaug-bpe")),
    (PreTokenizer((_QWEN2,)), ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2")),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    name: pre_tokenizer for pre_tokenizer, names in _FAMILIES for name in names
}
