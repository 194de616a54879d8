from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.local_setup import prepare, prepare_site
from infra.local_sites import Ports, sites_of
from infra.state import StateDir, read_secret
from origin.keys import load_key


def content(state: StateDir) -> dict[str, bytes]:
    """Every file of a state directory with its bytes."""
    return {
        str(path.relative_to(state.root)): path.read_bytes()
        for path in state.root.rglob("*")
        if path.is_file()
    }


async def prepare_all(state: StateDir) -> None:
    """What a start makes, without regions."""
    await prepare(state)
    prepare_site(*sites_of(state, Ports(), ()))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.make()
    return made


async def test_the_first_start_makes_keys_tokens_and_a_repository(state: StateDir) -> None:
    await prepare_all(state)
    load_key(state.publisher_key)
    load_key(state.keys / "root.key", read_secret(state.passphrase_file))
    assert state.trust_root.exists()
    assert (state.origin_store / "trust" / "documents.json").exists()
    files = (state.admin_token, state.worker_token, state.cloud_token, state.edge_report_token)
    assert len({read_secret(file) for file in files}) == 4


async def test_every_secret_is_for_its_owner_alone(state: StateDir) -> None:
    await prepare_all(state)
    secret = [*(state.root / "secrets").iterdir(), *state.keys.glob("*.key"), state.passphrase_file]
    assert len(secret) == 11
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


async def test_later_starts_find_everything_again(state: StateDir) -> None:
    await prepare_all(state)
    first = content(state)
    await prepare_all(state)
    assert content(state) == first


async def test_a_first_start_that_was_cut_off_is_begun_anew(state: StateDir) -> None:
    (state.root / ".initializing" / "keys").mkdir(parents=True)
    (state.root / ".initializing" / "keys" / "root.key").write_text("half")
    await prepare_all(state)
    load_key(state.keys / "root.key", read_secret(state.passphrase_file))
    assert not (state.root / ".initializing").exists()


async def test_a_first_start_cut_off_while_moving_is_finished(state: StateDir) -> None:
    await prepare_all(state)
    first = content(state)
    whole = state.root / ".initialized"
    whole.mkdir()
    state.origin_store.rename(whole / "origin")
    await prepare_all(state)
    assert content(state) == first


async def test_keys_that_are_there_are_never_replaced(state: StateDir) -> None:
    state.keys.mkdir()
    (state.keys / "root.key").write_text("mine")
    await prepare_all(state)
    assert [path.name for path in state.keys.iterdir()] == ["root.key"]


async def test_a_site_keeps_the_pull_token_that_the_origin_knows(state: StateDir) -> None:
    await prepare_all(state)
    token = read_secret(state.edge_pull_token)
    (site,) = sites_of(state, Ports(), ())
    prepare_site(site)
    assert read_secret(state.edge_pull_token) == token
    state.pull_tokens("origin").unlink()
    prepare_site(site)
    assert read_secret(state.edge_pull_token) != token
