from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from origin.upkeep.diff import diff
from tests.fakes.revisions import chunk_of, make_revision
from wire.manifest import Manifest, build

A = make_revision(
    {"m.gguf": [chunk_of(1), chunk_of(2)], "old.txt": [chunk_of(3, 10)], "same": [chunk_of(4)]}
).manifest
B = make_revision(
    {"m.gguf": [chunk_of(1), chunk_of(5)], "new.txt": [chunk_of(3, 10)], "same": [chunk_of(4)]}
).manifest


def test_a_difference_is_what_has_to_be_moved() -> None:
    found = diff(A, B)
    assert (found.size_a, found.size_b) == (3_010, 3_010)
    assert (found.moved, found.shared, found.moved_chunks, found.chunks_b) == (1_000, 2_010, 1, 4)
    files = {one.path: (one.change, one.size_b, one.shared, one.moved) for one in found.files}
    assert files == {
        "m.gguf": ("changed", 2_000, 1_000, 1_000),
        "new.txt": ("new", 10, 10, 0),
        "old.txt": ("removed", 0, 0, 0),
        "same": ("same", 1_000, 1_000, 0),
    }


def test_metadata_that_differs_is_told_with_both_values() -> None:
    a = build("chat", A.files, {"general.name": "x", "same": "1", "gone": "2"})
    b = build("chat", B.files, {"general.name": "y", "same": "1", "new": "3"})
    assert diff(a, b).metadata == {"general.name": ("x", "y"), "gone": ("2", ""), "new": ("", "3")}


def test_a_chunk_that_stands_in_two_files_is_moved_once() -> None:
    twice = make_revision({"a": [chunk_of(7), chunk_of(7)], "b": [chunk_of(7)]}).manifest
    found = diff(A, twice)
    assert (found.moved, found.moved_chunks, found.shared) == (1_000, 1, 2_000)


chunks = st.lists(st.integers(0, 6), min_size=1, max_size=5)
revisions = st.dictionaries(st.sampled_from(["a", "b", "c"]), chunks, min_size=1).map(
    lambda files: (
        make_revision(
            {name: [chunk_of(seed, seed + 1) for seed in seeds] for name, seeds in files.items()}
        ).manifest
    )
)


@given(a=revisions, b=revisions)
def test_the_parts_add_up(a: Manifest, b: Manifest) -> None:
    found = diff(a, b)
    assert found.moved == sum(one.moved for one in found.files)
    assert found.moved + found.shared == found.size_b == b.size
    held = a.chunk_refs().keys()
    assert found.moved == sum(ref.size for id_, ref in b.chunk_refs().items() if id_ not in held)
    assert (found.moved == 0) == (b.chunk_refs().keys() <= held)
    assert diff(b, b).moved == 0
