from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import paths
from wire.errors import NameInvalidError

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "/etc/passwd",
    "a\0b",
    "%2e%2e",
    "a%2fb",
    "a\\b",
    "a\nb",
    " a",
    ".hidden",
    "a..b",
    "x" * 600,
    "é",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("check", [paths.model_name, paths.channel_name, paths.file_path])
def test_names_cannot_leave_their_place(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(NameInvalidError):
        check(text)


@pytest.mark.parametrize("text", ["chat-small", "a", "Llama-3.1_8B", "v1.2"])
def test_usual_names_pass(text: str) -> None:
    assert paths.model_name(text) == text
    assert paths.channel_name(text) == text


@pytest.mark.parametrize("text", ["model.gguf", "edge/tokenizer.json", "a b/c+d=e@f.bin"])
def test_usual_file_paths_pass(text: str) -> None:
    assert paths.file_path(text) == text


@given(st.text(max_size=80))
def test_a_file_path_that_passes_stays_below_its_folder(text: str) -> None:
    try:
        path = paths.file_path(text)
    except NameInvalidError:
        return
    assert not path.startswith("/")
    assert ".." not in path
    assert "\0" not in path
    assert "//" not in path


def test_a_model_without_channel_means_stable() -> None:
    assert paths.model_at_channel("chat") == ("chat", "stable")
    assert paths.model_at_channel("chat@canary") == ("chat", "canary")
    with pytest.raises(NameInvalidError):
        paths.model_at_channel("chat@a@b")


def test_a_revision_is_a_sha256() -> None:
    assert paths.revision_id("a" * 64) == "a" * 64
    with pytest.raises(NameInvalidError):
        paths.revision_id("main")


def test_error_answers_do_not_echo_the_name() -> None:
    with pytest.raises(NameInvalidError) as caught:
        paths.model_name("../../etc/shadow")
    assert "shadow" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (paths.channel_key("chat-v1.2", "stable"), "channel~chat-v1.2~stable"),
        (paths.revision_key("0a" * 32), "revision~" + "0a" * 32),
        (paths.TRUST_KEY, "trust"),
    ],
)
def test_an_edge_tag_holds_nothing_that_akamai_refuses(key: str, tag: str) -> None:
    assert paths.edge_tag(key) == tag
    assert re.fullmatch(r"[A-Za-z0-9!#$%'+./^_`|~-]{1,128}", tag)


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}", fullmatch=True)


@given(names, names, names, names)
def test_edge_tags_fit_and_no_two_keys_share_one(a: str, b: str, c: str, d: str) -> None:
    keys = {paths.channel_key(a, b), paths.channel_key(c, d), "*", "trust", f"chunk:{a[:64]}"}
    tags = {paths.edge_tag(key) for key in keys}
    assert len(tags) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9!#$%'+./^_`|~-]{1,128}", tag) for tag in tags)


def test_every_answer_has_the_tag_that_stands_for_all() -> None:
    assert paths.edge_tags("trust", "channel:a@b") == f"trust,channel~a~b,{paths.edge_tag('*')}"
