"""Texts to compare two tokenizers with: each has something that tokenizers treat in their own ways.

All are short, because an engine may take time and stack in proportion to the longest run; the
longest is of a few thousand characters. Published with a model are only the index and the name of
the text in which an engine differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MAX_LITERALS = 24
"""How many of a vocabulary's control literals are tried, half of them from its end."""


@dataclass(frozen=True, slots=True)
class ParityText:
    """A text and what is special about it."""

    name: str
    text: str


_FIXED: dict[str, tuple[str, ...]] = {
    "contractions": (
        "Hello, world! I'm sure they've said we'll see; you'd BETTER'RE.",
        "''' 's 'S 'll ''ll' 'ſ 'K don’t It'S WE'VE'D o'clock 'tis rock'n'roll",
    ),
    "white space": (
        "  leading, trailing  \n\n\n\tTabs\t\tand\r\nlines \r\r\n   \n x",
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        " \n ",
        "\n \n",
        "x \n",
        " x",
        "x ",
        "a b  c   d    e     f      g       h",
        "a\u00a0b\u2003c\u3000d\u1680e\u2028f\u2029g\u202fh\u205fi\x85j\x0bk\x0cl\ufeffm\u200bn",
        "\u3000\u3000。\u2003!\u2003? \u00a0,\u3000a\u3000 \u3000",
        "\u2581 \u2581\u2581 a\u2581b \u2581c",
    ),
    "digits": (
        "1 12 123 1234 12345 3.14159 1,000,000 ½ Ⅷ ٣٤٥ 一二三 ①② x² H₂O",
        "12345678901234567890 ٣٤٥٦٧٨٩ 1٣2 १२३४ 0x7fff 1e-10 2024-07-15T12:30:00Z +49 30 123456",
    ),
    "case": (
        "CamelCase XMLHttpRequest iPhone McDONALD'S ÀÉÎ àÀéÉ ABC's ǅ ŉ ß ẞ İ ı AAbb BBaa aaB",
    ),
    "signs": (
        "!!! ... ??!! --- === ((())) <<>> <|no token|> [x] \\n #$%&*+,-./:;<=>?@[\\]^_`{|}~",
        "=== +++ $$ ^^ `` ~~ |=| <> ~`|\n//\n.\n/ a/b\\c https://example.org/a?b=c&d=%20#e",
        "“quoted” ‘single’ «guillemets» – — … • § ¶ † ‰ ™ © ® µ ª º ¿ ¡ € £ ¥ ∀x∈ℝ: x²≥0 → ⇒ ∞",
    ),
    "python": (
        "def f(x):\n    return {'a': [x ** 2, \"b\"]}  # ok?\n\n\n\nclass A: ...",
        'async def g(*args, **kw) -> None:\n\tif not args:\n\t\traise ValueError(f"{kw!r}")\n',
    ),
    "c": ('#include <stdio.h>\nint main(void) {\n\tprintf("%d\\n", 1 << 8); /* ok */\n}\n',),
    "javascript": ("const f = async (a, ...b) => `${a?.x ?? b[0]}`; // end\nexport default f;\n",),
    "rust": ('fn main() -> Result<(), Box<dyn Error>> { let x: &\'a str = "é"; Ok(()) }\n',),
    "html": ('<p class="a">x &amp; y<br/></p>\n<!-- no -->\n<script>if (a&&b) {}</script>',),
    "data": (
        '{"a": [1, 2.5, null, true], "b\\u00e9": {"c": "\\""}}\n',
        "SELECT * FROM t WHERE a >= 'b' AND c IS NOT NULL; -- x\nkey:\n  - v1\n  - 'v2'\n",
        "| a | b |\n|---|---|\n| **1** | _2_ |\n\n```sh\n$ ls -la ~/x | grep -v '^d'\n```\n",
    ),
    "latin": ("Größe Straße œuvre naïve façade Ærø łódź İstanbul Việt Nam ŵ ȑ",),
    "cyrillic and greek": ("Привет, мир! Ελληνικά ѓ Ё ё Ґ ҂ Ѵ ϗ",),
    "cjk": (
        "你好，世界！東京は日本の首都です。안녕하세요 세계 ㄅㄆㄇ ㄱㄴ ヶ ー ・ ｶﾞ Ａｂｃ１２３",
        "。，、—…“”：；、〿﹏ㄅㄆㄱㅎ가나다一龥ぁんァヶ龦𠀀𪛟㐀豈⼀",
    ),
    "right to left": ("مرحبا بالعالم شَدَّة שלום עולם שָׁלוֹם \u200fabc\u200e ١٢٣ ܫܠܡܐ",),
    "indic": ("नमस्ते दुनिया हिन्दी বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം ਪੰਜਾਬੀ සිංහල ক্ষ র‍্য",),
    "south-east asian": ("สวัสดีชาวโลก ລາວ ភាសាខ្មែរ မြန်မာ བོད་ཡིག ᠮᠣᠩᠭᠣᠯ",),
    "other scripts": ("Հայերեն ქართული አማርኛ ᏣᎳᎩ ⵜⴰⵎⴰⵣⵉⵖⵜ 𐌰𐌱 𝒜𝔟𝕔 𓀀 ᚠᚢ",),
    "emoji": (
        "🙂🙃👩‍👩‍👧‍👦 👍🏽👩🏿‍🚀 🇫🇷🇩🇪 🏴󠁧󠁢󠁳󠁣󠁴󠁿 ❤️‍🔥 1️⃣ ☺︎ 🫠🫨 ♂️",
        "a🙂b 🙂🙂 🙂 \n🙂🏽",
    ),
    "unnormalised": (
        "e\u0301 \u0301 é A\u030a Å \u212b ﬁ ﬀ \u1112\u1161\u11ab 한 \u0915\u093c \u0958 ① ㎏",
        "Z\u0351\u036b\u0343a\u0363\u0348l\u0348\u034dg\u0321o\u0322 \u0344 \u0f73",
    ),
    "controls": (
        "\x00 \x01\x02 \x1b[0m \x1c\x1d\x1e\x1f \x7f \x80\x9f \u200b\u200c\u200d\u2060\ufeff",
        "\ufffd \ufffe \uffff \ue000 \U0010ffff \U000e0001 \u0378 \u1c89 \U00010d41 \U00010d4a",
    ),
    "byte tokens": ("<0x0A> <0x00><0xFF> <unk> <s> </s> [INST] <|x|> <pad>",),
    "markup of models": (
        "<sentinel:12>IMGIMGABCDZ <think>x</think> <|im_start|>user\n<start_of_turn> [PAD]",
    ),
    "empty": ("",),
}
_RUNS = (
    " ", "\n", "\t", " \n", "a", "A", "ab", "aB", "0", "12", ".", "-", "=", "_", "*", "/", "!?",
    "é", "你", "🙂", "\u0301", "\u3000", "'s", " a", "ha", "\r\n",
)  # fmt: skip
_RUN_LENGTHS = (7, 64, 1000)


def parity_texts(literals: Sequence[str], prompts: Sequence[str] = ()) -> Iterator[ParityText]:
    """The texts for one model, always in the same order.

    Args:
        literals: the texts of its control tokens.
        prompts: what its chat template has rendered.
    """
    for name, texts in _FIXED.items():
        yield from (ParityText(name, text) for text in texts)
    for run in _RUNS:
        for length in _RUN_LENGTHS:
            yield ParityText(f"{length} times {run!r}", "x" + run * length + "y")
    for literal in _some(literals):
        text = f"{literal}a {literal} b{literal}{literal}\n{literal[:-1]} {literal[1:]}x{literal}"
        yield ParityText(f"the control literal {literal!r}", text)
        yield ParityText(f"the control literal {literal!r} in white space", f"  {literal}  \n x")
    for prompt in prompts:
        yield ParityText("a rendered conversation", prompt)


def _some(literals: Sequence[str]) -> Sequence[str]:
    half = _MAX_LITERALS // 2
    return literals if len(literals) <= 2 * half else (*literals[:half], *literals[-half:])
