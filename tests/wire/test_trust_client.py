from __future__ import annotations

import time
from pathlib import Path

import pytest

from origin.keys import ROOT_FILE, KeySet, init_keys
from tests.fakes.source import MemorySource
from wire.errors import ConfigError, SourceUnavailableError, TrustError, TrustStateError
from wire.trust_client import TrustClient, open_trust


@pytest.fixture
def keys(tmp_path: Path) -> KeySet:
    return init_keys(tmp_path / "keys", "passphrase", now=time.time())


async def test_what_a_source_gives_counts_once_it_is_verified(keys: KeySet, tmp_path: Path) -> None:
    source = MemorySource()
    source.bundle = keys.repository.bundle(1)
    store = open_trust(tmp_path / "trust", tmp_path / "keys" / ROOT_FILE)
    client = TrustClient(source, store)
    before = client.view
    assert before is None
    view = await client.refresh()
    assert client.view == view
    assert source.root_versions == [client.root_version] == [1]


async def test_a_bad_or_missing_source_leaves_the_old_view(keys: KeySet, tmp_path: Path) -> None:
    source = MemorySource()
    source.bundle = keys.repository.bundle(1)
    client = TrustClient(source, open_trust(tmp_path / "trust", tmp_path / "keys" / ROOT_FILE))
    view = await client.refresh()
    source.bundle = b"{}"
    with pytest.raises(TrustError):
        await client.refresh()
    source.down = SourceUnavailableError("away")
    with pytest.raises(SourceUnavailableError):
        await client.refresh()
    assert client.view == view


def test_a_root_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"root\.json"):
        open_trust(tmp_path / "trust", tmp_path / "root.json")
    (tmp_path / "root.json").write_text("{}")
    with pytest.raises(ConfigError, match="root"):
        open_trust(tmp_path / "trust", tmp_path / "root.json")


async def test_what_does_not_verify_is_asked_of_the_others(keys: KeySet, tmp_path: Path) -> None:
    hostile, away, honest = MemorySource("hostile"), MemorySource("away"), MemorySource("honest")
    hostile.bundle = b"{}"
    away.down = SourceUnavailableError("away")
    store = open_trust(tmp_path / "trust", tmp_path / "keys" / ROOT_FILE)
    client = TrustClient(hostile, store, [hostile, away, honest])
    honest.bundle = b"[]"
    with pytest.raises(TrustError, match="missing required field"):
        await client.refresh()
    honest.bundle = keys.repository.bundle(1)
    assert await client.refresh() == keys.repository.view


async def test_a_source_that_is_away_is_no_reason_to_ask_the_others(
    keys: KeySet, tmp_path: Path
) -> None:
    """Failing over is the source's own business (``wire.sources``)."""
    away, honest = MemorySource("away"), MemorySource("honest")
    away.down = SourceUnavailableError("away")
    honest.bundle = keys.repository.bundle(1)
    store = open_trust(tmp_path / "trust", tmp_path / "keys" / ROOT_FILE)
    with pytest.raises(SourceUnavailableError):
        await TrustClient(away, store, [honest]).refresh()
    assert honest.root_versions == []


async def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_source(
    keys: KeySet, tmp_path: Path
) -> None:
    source = MemorySource()
    source.bundle = keys.repository.bundle(1)
    (tmp_path / "trust").write_text("no folder")
    client = TrustClient(
        source, open_trust(tmp_path / "trust", tmp_path / "keys" / ROOT_FILE), [source]
    )
    with pytest.raises(TrustStateError):
        await client.refresh()
    assert source.root_versions == [1]
