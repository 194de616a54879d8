"""Known or new, cut or whole: the ids are the library's."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from origin.bundle import build_bundle
from tests.fakes.cutting import CUT_TEXTS, random_texts, without_crossings
from tests.fakes.spm_vocabulary import train_spm
from tests.fakes.tiny_gguf import Vocabulary, write_tiny_gguf
from wire.gguf import read_gguf
from wire.word_cache import WordCache, WordCacheConfig
from wire.word_cut import Cut, cut_of

SMALL = WordCacheConfig(words=40, texts=5, shortest_text=30, slice=50, longest_word=6, short=20)
FAMILIES: dict[str, tuple[Vocabulary, str, dict[str, bool]]] = {
    "gpt-2": (without_crossings(), "gpt-2", {}),
    "llama-bpe": (without_crossings(), "llama-bpe", {}),
    "exaone-moe": (without_crossings(), "exaone-moe", {}),
    "deepseek-llm": (without_crossings(), "deepseek-llm", {}),
    "spm": (train_spm(), "", {}),
    "spm without a space": (train_spm(), "", {"add_space_prefix": False}),
}
Library = Callable[[str], list[int]]


def library_of(tokenizer: Tokenizer) -> Library:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return encode


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Library, Cut]:
    vocabulary, pre, keys = FAMILIES[request.param]
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    path = tmp_path_factory.mktemp("words") / "t.gguf"
    write_tiny_gguf(
        path, vocab=vocabulary, pre=pre or "gpt-2", chat_template=None, metadata=metadata
    )
    with path.open("rb") as stream:
        data = build_bundle(read_gguf(stream, path.stat().st_size)).tokenizer
    cut = cut_of(data)
    assert cut is not None
    return library_of(Tokenizer.from_buffer(data)), cut


words = st.sampled_from(["the", "a", "don't", "x" * 9, "é", "世界", "1", "12", "'s", ".", "\u2581"])
gaps = st.sampled_from([" ", " ", " ", "  ", "\n", " \n", "\t", "\u00a0", "\0", ""])
texts = st.lists(words | gaps | st.text(max_size=3), max_size=40).map("".join)


@pytest.mark.parametrize("config", [WordCacheConfig(), SMALL])
def test_ids_are_the_librarys(loaded: tuple[Library, Cut], config: WordCacheConfig) -> None:
    library, cut = loaded
    cache = WordCache(library, cut, config)
    assert cache.cuts

    @given(text=texts)
    @settings(deadline=None, max_examples=150)
    def check(text: str) -> None:
        for _ in range(2):
            assert list(cache.encode(text)) == library(text)

    check()
    for text in (*CUT_TEXTS, *random_texts(200, seed=3)):
        assert list(cache.encode(text)) == library(text), text


@pytest.mark.parametrize("seed", range(2))
def test_long_texts_are_encoded_in_slices(loaded: tuple[Library, Cut], seed: int) -> None:
    library, cut = loaded
    source = random.Random(seed)
    vocabulary = ["".join(source.choices("abcdeé世1.'\n", k=5)) for _ in range(300)]
    text = "  ".join(" ".join(source.choices(vocabulary, k=400)) for _ in range(20))
    cache = WordCache(library, cut)
    assert list(cache.encode(text)) == library(text)
    assert list(cache.encode(text + " x")) == library(text + " x")


def test_known_words_and_texts_need_no_library(loaded: tuple[Library, Cut]) -> None:
    library, cut = loaded
    asked: list[str] = []

    def counting(text: str) -> list[int]:
        asked.append(text)
        return library(text)

    cache = WordCache(counting, cut)
    for _ in range(2):
        cache.encode("the cat saw a dog and another cat")
    cache.encode("x" * 300)
    asked.clear()
    assert cache.encode("the dog saw another cat and a cat")
    assert cache.encode("x" * 300)
    assert asked == []
    cache.encode("the dog saw one more cat")
    assert "".join(asked).split() == ["one", "more"]


def test_a_cut_that_a_trial_refutes_is_not_made(loaded: tuple[Library, Cut]) -> None:
    """A library that minds the word before is no tokenizer that may be cut."""
    library, cut = loaded

    def minding(text: str) -> list[int]:
        return library(text.replace("quick brown", "quick brawn"))

    cache = WordCache(minding, cut)
    assert not cache.cuts
    assert list(cache.encode("a quick brown b")) == library("a quick brawn b")


def test_without_a_cut_texts_are_remembered_whole() -> None:
    asked: list[str] = []

    def library(text: str) -> list[int]:
        asked.append(text)
        return list(text.encode())

    cache = WordCache(library, None)
    for _ in range(3):
        assert list(cache.encode("short")) == list(b"short")
        assert list(cache.encode("long " * 100)) == list(b"long " * 100)
    assert asked == ["short", "long " * 100, "short", "short"]


def test_sizes_that_do_not_add_up_only_cost_time(loaded: tuple[Library, Cut]) -> None:
    library, cut = loaded
    wrong = msgspec.structs.replace(cut, sizes=[size + 1 for size in cut.sizes])
    cache = WordCache(library, wrong)
    for text in (*CUT_TEXTS, *random_texts(50, seed=4)):
        assert list(cache.encode(text)) == library(text)


def test_threads_share_a_cache(loaded: tuple[Library, Cut]) -> None:
    library, cut = loaded
    cache = WordCache(library, cut, SMALL)
    wrong: list[str] = []

    def run(seed: int) -> None:
        texts = random_texts(60, seed)
        wrong.extend(text for text in texts if list(cache.encode(text)) != library(text))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(seed % 2,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
