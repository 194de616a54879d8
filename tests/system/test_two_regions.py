"""docs/how-to/two-regions.md, done as its reader does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.fleet import eventually
from tests.fakes.headwater import ROOT, headwater
from tests.fakes.markdown import commands_of
from tests.fakes.reader import Reader, following

PAGE = "how-to/two-regions.md"
COMMANDS = commands_of(PAGE)
REGIONS = ("eu-west", "us-east")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The whole page, once; the system runs on until the tests are over."""
    pytest.importorskip("xllamacpp")
    with following(PAGE, tmp_path_factory.mktemp("regions")) as reader:
        yield reader


def fleet(reader: Reader) -> dict[str, Any]:
    _, document, _ = headwater("fleet", state_dir=reader.folder)
    found: dict[str, Any] = document
    return found


def test_it_takes_six_commands_from_the_clone() -> None:
    assert len(COMMANDS) <= 6
    assert COMMANDS[0].startswith("git clone ")
    assert COMMANDS[1] == "make venv"
    assert "venv:" in (ROOT / "Makefile").read_text()
    assert (ROOT / "infra/demo_models/edge-small-r2.gguf").exists()


def test_a_region_that_is_named_answers(reader: Reader) -> None:
    said = reader.said("chat")
    assert "Paris" in said
    assert "worker; model=edge-small" in said


def test_the_fleet_shows_both_regions_and_is_well(reader: Reader) -> None:
    said = reader.said("fleet")
    for region in REGIONS:
        assert f"edge-{region}" in said
        assert f"worker-{region}" in said


def test_a_roll_reaches_both_regions(reader: Reader) -> None:
    reader.said("publish")

    def consistent() -> bool:
        found = fleet(reader)
        (channel,) = (c for c in found["channels"] if c["model"] == "edge-small")
        return bool(channel["consistent"]) and channel["serving"] == len(REGIONS)

    eventually(consistent, 60)
    assert {edge["region"] for edge in fleet(reader)["edges"]} == set(REGIONS)


def test_every_region_has_what_the_page_says(reader: Reader) -> None:
    ready = json.loads((reader.folder / "ready.json").read_text())
    assert [region["name"] for region in ready["regions"]] == list(REGIONS)
    for region in REGIONS:
        home = reader.folder / "regions" / region
        assert (home / "headwater.toml").exists()
        assert (home / "logs" / "edge.log").exists()
        assert (home / "run" / "worker.json").exists()
        assert (home / "secrets" / "worker-token").stat().st_mode & 0o077 == 0
        for name in ("edge", "worker"):
            assert any((home / name).iterdir())
