"""The reference pages in docs/ are what the code draws now."""

from pathlib import Path

import pytest

from infra.reference.pages import FOLDER, PAGES, write_all


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), "run `make docs` and commit what it drew"


def test_what_is_drawn_is_written_once(tmp_path: Path) -> None:
    pages = {"a.md": lambda: "one", "b.md": lambda: "two"}
    folder = tmp_path / "reference"
    assert [path.name for path in write_all(folder, pages)] == ["a.md", "b.md"]
    assert write_all(folder, pages) == []
    assert write_all(folder, {**pages, "b.md": lambda: "three"}) == [folder / "b.md"]
    assert [path.read_text() for path in sorted(folder.iterdir())] == ["one", "three"]
