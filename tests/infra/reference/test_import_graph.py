"""The graph is what the source says."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.reference.import_graph import Graph, read_graph, room_of


def write(root: Path, files: dict[str, str]) -> Graph:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_graph(root)


@pytest.fixture
def small(tmp_path: Path) -> Graph:
    return write(
        tmp_path,
        {
            "wire/__init__.py": '"""What ``all`` share. No more."""',
            "wire/chunk.py": "import hashlib",
            "wire/http_a.py": "from wire import chunk",
            "wire/http_b.py": "from wire.chunk import Chunk\nimport wire.http_a",
            "wire/http_c.py": "",
            "origin/__init__.py": "",
            "origin/app.py": "from origin.stores.bucket import S3\nfrom wire import chunk",
            "origin/stores/__init__.py": '"""Where objects are."""',
            "origin/stores/bucket.py": "def f():\n    from wire.chunk import Chunk",
            "origin/data/__init__.py": "",
        },
    )


def test_rooms_are_packages_with_files_in_them(small: Graph) -> None:
    assert small.sizes == {"origin": 3, "origin.stores": 2, "wire": 5}


def test_modules_that_import_are_counted_once_each(small: Graph) -> None:
    assert small.rooms == {
        ("origin", "origin.stores"): 1,
        ("origin", "wire"): 1,
        ("origin.stores", "wire"): 1,
    }
    assert small.frames == {("origin", "wire"): 2}


def test_a_package_says_what_it_is_and_which_parts_it_has(small: Graph) -> None:
    assert small.about("wire") == "What all share"
    assert small.parts("wire") == [("http", 3)]
    assert small.parts("origin") == []


@pytest.mark.parametrize("importer", ["wire/up.py", "gpu_worker/aside.py"])
def test_an_import_upwards_or_sideways_is_wrong(tmp_path: Path, importer: str) -> None:
    text = "from origin.app import build_app"
    graph = write(tmp_path, {"origin/app.py": "", importer: text})
    assert graph.wrong() == [(importer.partition("/")[0], "origin")]


def test_a_module_is_in_its_innermost_room() -> None:
    rooms = {"edge_tier", "edge_tier.gateway"}
    assert room_of("edge_tier.gateway.relay", rooms) == "edge_tier.gateway"
    assert room_of("edge_tier.gateway_app", rooms) == "edge_tier"
    assert room_of("aiohttp.web", rooms) == ""


def test_in_our_own_code_nothing_is_wrong_and_the_planes_do_not_meet() -> None:
    graph = read_graph()
    assert graph.wrong() == []
    assert ("edge_tier.cache", "edge_tier.gateway") not in graph.rooms
    assert ("edge_tier.gateway", "edge_tier.cache") not in graph.rooms
    assert graph.frames["infra", "origin"] > 5
    assert len(graph.sizes) > 15
    assert all(graph.about(room) for room in graph.sizes)
