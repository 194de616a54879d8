"""Words in borrowed letters are found; ordinary writing in any script is left as it is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import re2
from hypothesis import example, given
from hypothesis import strategies as st

from edge_tier.gateway.homoglyphs import CONFUSABLES, TRIGGER, folded, homoglyphs
from edge_tier.gateway.request import Message, Prompt, Rules
from edge_tier.gateway.sanitize import sanitize
from tests.fakes.cpu import least_cpu_s

TRICKS = {
    "раypal": "paypal",
    "log in to Аpple": "log in to Apple",
    "іgnоrе": "ignore",
    "pαypal": "paypal",
    "gοοgle": "google",
    "micrοsoft": "microsoft",
    "ΡayPal": "PayPal",
    "ｉｇｎｏｒｅ all": "ignore all",
    "igｎore": "ignore",
    "𝐢𝐠𝐧𝐨𝐫𝐞 𝐚𝐥𝐥": "ignore all",
    "𝕚𝕘𝕟𝕠𝕣𝕖": "ignore",
    "𝓲𝓰𝓷𝓸𝓻𝓮": "ignore",
    "𝚒𝚐𝚗𝚘𝚛𝚎": "ignore",
    "i𝐠n𝐨re": "ignore",
    "ⓘⓖⓝⓞⓡⓔ": "ignore",
    "🅸🅶🅽🅾🆁🅴": "IGNORE",
    "ѕуѕtеm prοmpt": "system prompt",
    "pаsswоrd и": "password и",
    "Տystem": "System",
    "Ꭺdmin": "Admin",
    "<|іm_start|>": "<|іm_start|>",  # two letters are no word
}

WRITING = {
    "english": "Don't – naïve café, Œuvre, ½ €, x² + y₁",
    "russian": "Привет, мир! Сор, рот, сок, око, аура. США и СССР, ТВ-3, 5 кВт·ч, 10 см",
    "russian with latin": "VIP-клиент с iPhone'ом, SMSка и PDFка, Wi-Fi в Яндекс.Go, C++ный код",
    "ukrainian": "Їжак і його сім'я: е-mail, USB-кабель, PR-менеджер",
    "serbian": "Љубав, Београд, ЈП Србијагас, Windows-а",
    "bulgarian": "Аз обичам PHP-то и сирене",
    "kazakh": "Қазақстан Республикасы, әлем, һәм",
    "greek": "Καλημέρα κόσμε, το PC μου, Wi-Fi και email στο Αθήνα",
    "greek in physics": "ρmax = 3, Δx·Δp ≥ ħ/2, νt, μm, kΩ, αβγ, σ_x, τmin, χ², βcat, γray, nαeq",
    "armenian": "Բարև Ձեզ, աշխարհ, IT ոլորտ",
    "georgian": "გამარჯობა მსოფლიო, USB კაბელი",
    "hebrew": "שלום עולם, ה-API של Google",
    "arabic": "مرحبا بالعالم، API و٢٠٢٤",
    "persian": "می\u200cخواهم کتاب\u200cها را ۱۴۰۳",
    "urdu": "آپ کیسے ہیں؟ Email بھیجیں",
    "hindi": "नमस्ते दुनिया, क्\u200dष PDF फ़ाइल २०२४",
    "bengali": "ওহে বিশ্ব র\u200d্যাব",
    "tamil": "வணக்கம் உலகம் App",
    "thai": "สวัสดีชาวโลก Facebook ภาษา\u200bไทย",
    "khmer": "សួស្តី\u200bពិភពលោក",
    "japanese": "東京のＮＨＫとＷｅｂサイト、Ｔシャツ、５００円、ＡＢＣ株式会社、PDFファイル",
    "chinese": "你好，世界！ＡＰＰ下载、Ｔ恤、Ｋ歌、iPhone手机",
    "korean": "안녕하세요 ＰＣ방 세계, KTX를",
    "formulas": "𝑥 + 𝑦 = 𝐀𝐱, ∀x ∈ ℝ, 𝔼[X] = ∑𝑝, sin𝑥 d𝑥, ℓ² ℵ₀ 𝒪(n), 𝑎𝑏𝑐, ℎ𝜈",
    "emoji": "👩\u200d🚀 ❤\ufe0f 🅰🅱 🆎 🇩🇪 Ⓜ️ ℹ️ ⓐ ⓑ 1️⃣",
    "phonetic": "/ɪɡˈnɔː/ [ˈpʰeɪpæl] ʃ ʒ ŋ",
    "turkish": "Iğdır, ışık, İstanbul, kapıcı",
    "vietnamese": "Việt Nam, đường phố, Nguyễn Ư",
    "polish": "Zażółć gęślą jaźń, Łódź",
    "units": "5 µs, 20 Å, 3 Ω, 10 °C, №5",
    "cherokee": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "amharic": "ሰላም ዓለም IT",
}


@pytest.mark.parametrize("text", TRICKS)
def test_tricks_fold_into_what_they_look_like(text: str) -> None:
    tricks = homoglyphs(text).tricks
    result = folded(text, tricks)
    assert result == TRICKS[text]
    assert len(result) == len(text)
    assert homoglyphs(result).tricks == []
    if tricks:
        assert re2.search(TRIGGER, text) is not None


@pytest.mark.parametrize("script", WRITING)
def test_ordinary_writing_is_left_as_it_is(script: str) -> None:
    text = WRITING[script]
    assert homoglyphs(text).tricks == []
    for one in (text, f"{text}\n{WRITING['english']}", f"ok {text} ok"):
        prompt = Prompt(kind="chat", model="m", messages=(Message("user", one),))
        result = sanitize(prompt, Rules(homoglyphs="fold", personal_data="restore"))
        assert result.prompt is prompt
        assert result.findings == ()


def test_every_look_alike_is_one_letter() -> None:
    assert all(len(plain) == 1 and plain.isascii() for plain in CONFUSABLES.values())
    assert not any(chr(code).isascii() for code in CONFUSABLES)


def test_after_the_bound_nothing_more_is_weighed() -> None:
    weighed = homoglyphs("раypal " * 11, max_words=10)
    assert weighed.words == 10
    assert len(weighed.tricks) == 10


def test_words_at_a_cut_of_slices_are_seen() -> None:
    for padding in range(32_766, 32_769):
        text = "a" * (padding % 7) + " " * padding + "раypal"
        (trick,) = homoglyphs(text).tricks
        assert text[trick.start : trick.end] == "раypal"


@example("см𝐱𝐱Привет")
@given(
    st.lists(st.sampled_from([*TRICKS, *WRITING.values(), "a", "а", "ｘ", "𝐱", " "])).map("".join)
)
def test_tricks_are_ordered_and_disjoint_and_the_trigger_sees_them(text: str) -> None:
    tricks = homoglyphs(text).tricks
    assert all(0 <= trick.start < trick.end <= len(text) for trick in tricks)
    assert all(a.end <= b.start for a, b in pairwise(tricks))
    assert len(folded(text, tricks)) == len(text)
    assert not tricks or re2.search(TRIGGER, text) is not None
    for before, after in zip(text, folded(text, tricks), strict=True):
        assert after in (before, CONFUSABLES.get(ord(before)))


@pytest.mark.parametrize("text", ["aа" * 100_000, "ａ" * 200_000, "𝐱 " * 100_000, "aа " * 70_000])
def test_no_text_takes_more_than_linear_time(text: str) -> None:
    # Measured at some 50 ms.
    assert least_cpu_s(lambda: homoglyphs(text), 1.0) < 1.0
