"""The page's scripts without a browser: node's own test runner, and merge patches against ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import reduce
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import origin.console
from origin.console.merge_patch import apply

STATIC = Path(origin.console.__file__).with_name("static")
TESTS = Path(__file__).with_name("page")
Merge = Callable[[Any, list[Any]], Any]


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: nothing runs the page's scripts")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts and their tests beside each other, as modules."""
    made = tmp_path_factory.mktemp("page")
    for path in (*STATIC.glob("*.js"), *TESTS.glob("*.mjs")):
        shutil.copy(path, made)
    (made / "package.json").write_text('{"type": "module"}')
    return made


@pytest.fixture(scope="module")
def merge(node: str, folder: Path) -> Iterator[Merge]:
    """The page's merge."""
    with subprocess.Popen(
        [node, "merge_server.mjs"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin, process.stdout

        def merged(target: Any, patches: list[Any]) -> Any:
            into.write(json.dumps([target, patches]) + "\n")
            into.flush()
            return json.loads(out.readline())

        yield merged
        into.close()


def test_the_scripts_do_what_they_should(node: str, folder: Path) -> None:
    tests = sorted(path.name for path in folder.glob("*.test.mjs"))
    assert len(tests) == len(list(TESTS.glob("*.test.mjs"))) > 0
    done = subprocess.run(
        [node, "--test", *tests], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


NAMES = st.sampled_from(("a", "b", "__proto__", "constructor", "")) | st.text(max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(target=JSON, patches=st.lists(JSON, max_size=4))
def test_the_page_merges_as_the_origin_does(merge: Merge, target: Any, patches: list[Any]) -> None:
    assert merge(target, patches) == json.loads(json.dumps(reduce(apply, patches, target)))


class _Page(HTMLParser):
    """What a page refers to, and what stands in it that a strict CSP forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        refers = given.get("src") or given.get("href")
        if refers:
            self.refers.append(refers)
        self._script = tag in {"script", "style"}
        self.inline += [n for n in given if n.startswith("on") or n == "style"]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


def _page() -> _Page:
    page = _Page()
    page.feed((STATIC / "index.html").read_text())
    return page


def test_the_page_has_nothing_inline_and_nothing_of_others() -> None:
    page = _page()
    assert page.inline == []
    local = [one for one in page.refers if not one.startswith("#")]
    assert all(one.startswith("/console/") for one in local)
    assert all((STATIC / one.removeprefix("/console/")).is_file() for one in local)


def test_every_module_is_loaded_ahead() -> None:
    told = set(_page().refers)
    assert {f"/console/{path.name}" for path in STATIC.glob("*.js")} <= told


def test_no_script_writes_markup_or_evaluates_text() -> None:
    forbidden = (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("),
        *("DOMParser", "srcdoc", "createContextualFragment", "javascript:"),
    )
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert [word for word in forbidden if word in text] == [], path.name


def test_only_the_choice_of_colours_is_stored() -> None:
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert "sessionStorage" not in text
        assert "indexedDB" not in text
        assert text.count("localStorage.") == text.count(
            'localStorage.getItem("headwater-theme")'
        ) + (text.count('localStorage.setItem("headwater-theme"'))
