"""The BPE pre-tokenizers that this project reproduces exactly, by their name in GGUF.

Each is the regular expression of llama.cpp (``llama-vocab.cpp``) in the dialect of the
``tokenizers`` library (Oniguruma), with these differences:

- letters, digits, marks, punctuation and symbols that came with Unicode 16 are none, because
  llama.cpp's tables end with Unicode 15.1;
- llama.cpp knows one class of letters: upper and lower case differ in ASCII only;
- where a class of llama.cpp's names white space beyond ASCII, it is not in it: llama.cpp has
  replaced it by a vertical tab before (``unicode_regex_split``);
- none takes more than linear time for a text of one long run, because the texts are strangers'.

The tests prove every name here against llama.cpp, and the classes of characters over the planes
where scripts are. A name that is not here is left to the engine: one whose meaning has changed
between versions of llama.cpp (``glm4``), one whose patterns would take quadratic time (``afmoe``,
``jais-2``, ``superbpe``), and one that depends on a quirk of the C++ library (``tiny_aya``).
"""

from __future__ import annotations

from dataclasses import dataclass

_NEW_LETTERS = (
    "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 "
    "1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C "
    "18CFF 1E5D0-1E5ED 1E5F0"
)
_NEW_DIGITS = "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA"
_NEW_MARKS = (
    "0897 10D69-10D6D 10EFC 113B8-113C0 113C2 113C5 113C7-113CA 113CC-113D0 113D2 113E1-113E2 "
    "11F5A 1611E-1612F 1E5EE-1E5EF"
)
_NEW_PUNCTUATION = "1B4E-1B4F 1B7F 10D6E 113D4-113D5 113D7-113D8 11BE1 16D6D-16D6F 1E5FF"
_NEW_SYMBOLS = (
    "2427-2429 31E4-31E5 10D8E-10D8F 1CC00-1CCEF 1CD00-1CEB3 1F8B2-1F8BB 1F8C0-1F8C1 1FA89 1FA8F "
    "1FABE 1FAC6 1FADC 1FADF 1FAE9 1FBCB-1FBEF"
)


def _ranges(text: str) -> str:
    return "".join(
        "-".join(f"\\x{{{bound}}}" for bound in part.split("-")) for part in text.split()
    )


_L = rf"[\p{{L}}&&[^{_ranges(_NEW_LETTERS)}]]"
_N = rf"[\p{{N}}&&[^{_ranges(_NEW_DIGITS)}]]"
_M = rf"[\p{{M}}&&[^{_ranges(_NEW_MARKS)}]]"
_P = rf"[\p{{P}}&&[^{_ranges(_NEW_PUNCTUATION)}]]"
_S = rf"[\p{{S}}&&[^{_ranges(_NEW_SYMBOLS)}]]"

_WORD_ENDS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACES = r"\s+(?!\S)|\s+"
_LINE_ENDS = rf"\s*[\r\n]+|{_SPACES}"
_LEAD = rf"[^\r\n{_L}{_N}]?"
_SIGNS = rf" ?[^\s{_L}{_N}]+"
_REST = rf"{_SIGNS}[\r\n]*|{_LINE_ENDS}"
_REST_WITH_SLASH = rf"{_SIGNS}[\r\n/]*|{_LINE_ENDS}"

_GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?{_L}+| ?{_N}+| ?[^\s{_L}{_N}]+|{_SPACES}"
_LLAMA3 = rf"{_WORD_ENDS}|{_LEAD}{_L}+|{_N}{{1,3}}|{_REST}"
_QWEN2 = rf"{_WORD_ENDS}|{_LEAD}{_L}+|{_N}|{_REST}"
_QWEN35 = rf"{_WORD_ENDS}|{_LEAD}[{_L}{_M}]+|{_N}| ?[^\s{_L}{_M}{_N}]+[\r\n]*|{_LINE_ENDS}"
_UFAKZEKA = rf"{_LEAD}{_L}+|{_N}|{_REST}"
_MINICPM5 = rf"{_WORD_ENDS}|{_LEAD}{_L}+|{_N}+|{_REST}"
_SEED_CODER = rf"{_WORD_ENDS}|{_LEAD}{_L}+|{_N}| ?[^\s{_L}{_N}\r\n]+|{_LINE_ENDS}"
_BAILING = rf"{_WORD_ENDS}|{_LEAD}{_L}+|{_N}|{_SIGNS}[\r\n]*|\s*[\r\n]|{_SPACES}"
_EXAONE_MOE = (
    rf"{_WORD_ENDS}|{_LEAD}(?:{_L}{_M}*(?: {_L}{_M}*)*)+|{_N}|{_SIGNS}[\r\n/]?|\s*[\r\n]|{_SPACES}"
)


def _cased(letters: str, ends: str) -> str:
    """A word of capitals and then small letters, either of which may lack."""
    upper, lower = rf"[{letters}&&[^a-z]]", rf"[{letters}&&[^A-Z]]"
    return rf"{_LEAD}{upper}*{lower}+{ends}|{_LEAD}{upper}+{lower}*{ends}"


_TEKKEN = rf"{_cased(_L, '')}|{_N}|{_REST_WITH_SLASH}"
_GPT4O = rf"{_cased(_L, f'{_WORD_ENDS}?')}|{_N}{{1,3}}|{_REST_WITH_SLASH}"
_GRANITE = rf"{_cased(f'[{_L}{_M}]', f'{_WORD_ENDS}?')}|{_N}{{1,3}}|{_REST_WITH_SLASH}"

_HAN = "[" + _ranges(
    "4E00-9FFF 3400-4DBF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B820-2CEAF 2CEB0-2EBEF F900-FAFF "
    "2F800-2FA1F"
) + "]"  # fmt: skip
_KIMI_K2 = rf"{_HAN}+|{_LEAD}[{_L}&&[^{_HAN}]]+{_WORD_ENDS}?|{_N}{{1,3}}|{_REST}"

_FALCON_SIGNS = rf"[{_P}$+<=>^~|`]+"
_DEFAULT_SIGNS = rf"[{_P}$+<=>^~|]+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"

_CJK = f"[{_ranges('4E00-9FA5 3040-309F 30A0-30FF')}]+"
_ASCII_SIGNS = r"[!-/:-@\[-`{-~]"
_DEEPSEEK3_WORDS = rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n{_L}{_P}{_S}]?[{_L}{_M}]+| ?[{_P}{_S}]+"
_DEEPSEEK3 = (rf"{_N}{{1,3}}", _CJK, rf"{_DEEPSEEK3_WORDS}[\r\n]*|{_LINE_ENDS}")
_SPARK = (*_DEEPSEEK3[:2], rf"{_DEEPSEEK3_WORDS}|[\r\n]|{_SPACES}", _N)

_OLD_CJK = rf"[[{_ranges('4E00-9FA5 0800-4E00 AC00-D7FF')}]&&[^\s]]+"
_DEEPSEEK_CODER = (r"[\r\n]", rf"\s?{_L}+", rf"\s?{_P}+", _OLD_CJK, _N)
_DEEPSEEK_LETTERS = _ranges(
    "0041-005A 0061-007A 00B5 00C0-00D6 00D8-00F6 00F8-01BA 01BC-01BF 01C4-0293 0295-02AF "
    "0370-0373 0376 0377 037B-037D 037F 0386 0388-038A 038C 038E-03A1 03A3-03F5 03F7-0481 "
    "048A-052F 0531-0556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 "
    "1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D "
    "1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 "
    "213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D "
    "A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A "
    "10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_DEEPSEEK_LETTERS}]+",
    rf"\s?[!-/:-~{_ranges('FF01-FF0F FF1A-FF5E 2018-201F 3001-3002')}]+",
    r"(?<!\s)\s++\z",
    _OLD_CJK,
    rf"{_N}+",
)
_YOUTU = (
    "|".join(
        f"[{_ranges(part)}]+"
        for part in (
            "AC00-D7A3 3131-318E",
            "FF01 2026 201C 201D 2018 2019 2014 FF1A FF1B FF0C 3001-303F FE30-FE4F",
            "3105-312F",
            "4E00-9FA5 3040-309F 30A0-30FF",
        )
    ),
    rf"{_LEAD}[{_L}{_M}]+{_WORD_ENDS}?|{_N}|{_REST_WITH_SLASH}",
)
_CHAMELEON = (
    r"<sentinel:[0-9]+>", r"IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", _N, rf"[{_P}!-/:-@\[-`{{-~]",
    _GPT2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How a text is cut into words before merging, and what the name implies besides.

    ``patterns`` are applied one after the other, each to the pieces of the one before.
    ``ignore_merges``: a word that is a token is taken whole. ``add_bos``: the default.
    ``default_bos``: whether there is a BOS where the file names none.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    default_bos: bool = True


_FAMILIES: tuple[tuple[PreTokenizer, tuple[str, ...]], ...] = (
    (
        PreTokenizer((_DEFAULT_SIGNS, _GPT2, rf"{_N}+", "[0-9][0-9][0-9]")),
        ("default", ""),
    ),
    (
        PreTokenizer((_GPT2,)),
        (
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat",
            "a.x-4.0", "mellum", "exaone4", "modern-bert", "roberta-bpe", "jina-es", "jina-de",
            "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code",
        ),
    ),
    (
        PreTokenizer((_N, _GPT2)),
        (
            "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b",
            "mellum2",
        ),
    ),
    (PreTokenizer((_FALCON_SIGNS, _GPT2, "[0-9][0-9][0-9]")), ("falcon",)),
    (
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
        (
            "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
            "lfm2", "jina-v5-nano",
        ),
    ),
    (PreTokenizer((_LLAMA3,)), ("dbrx", "smaug-bpe")),
    (PreTokenizer((_LLAMA3,), default_bos=False), ("chatglm-bpe",)),
    (
        PreTokenizer((_QWEN2,)),
        (
            "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan",
            "solar-open", "grok-2",
        ),
    ),
    (PreTokenizer((_QWEN35,)), ("qwen35",)),
    (PreTokenizer((_UFAKZEKA,)), ("ufakzeka",)),
    (PreTokenizer((r"[^\n]+|\n+", _QWEN2)), ("laguna",)),
    (PreTokenizer((rf"{_N}{{1,3}}", _MINICPM5), ignore_merges=True), ("minicpm5",)),
    (PreTokenizer((_SEED_CODER,)), ("seed-coder",)),
    (PreTokenizer((_BAILING,)), ("bailingmoe", "bailingmoe2", "llada-moe")),
    (PreTokenizer((_EXAONE_MOE,)), ("exaone-moe",)),
    (PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True), ("tekken",)),
    (PreTokenizer((_GPT4O,)), ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2")),
    (PreTokenizer((_GRANITE,), ignore_merges=True), ("granite-embed-multi-97m",)),
    (PreTokenizer((_KIMI_K2,)), ("kimi-k2",)),
    (PreTokenizer((_BLOOM,)), ("bloom", "gpt3-finnish", "poro-chat")),
    (PreTokenizer((_BLOOM, _N)), ("viking",)),
    (PreTokenizer(_DEEPSEEK3), ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4")),
    (PreTokenizer(_SPARK), ("spark2_5",)),
    (PreTokenizer(_DEEPSEEK_CODER), ("deepseek-coder",)),
    (PreTokenizer(_DEEPSEEK_LLM), ("deepseek-llm",)),
    (PreTokenizer(_YOUTU, ignore_merges=True), ("youtu",)),
    (PreTokenizer(_CHAMELEON, add_bos=True), ("chameleon",)),
)  # fmt: skip

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    name: pre_tokenizer for pre_tokenizer, names in _FAMILIES for name in names
}
