from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from origin.init import initialize
from origin.keys import ROOT_KEY, load_key
from tests.fakes.origin_home import Home
from wire.errors import ConfigError
from wire.trust_store import TrustStore


async def test_a_new_origin_has_keys_a_repository_and_a_token(home: Home) -> None:
    repository = await home.load()
    assert repository.first_root == home.root
    view = TrustStore(home.folder / "client", home.root).update(repository.bundle(1))
    assert not view.revisions
    assert home.token.startswith("hwadm-")
    assert stat.S_IMODE(home.config.admin_token_file.stat().st_mode) == 0o600
    assert load_key(home.config.keys_dir / ROOT_KEY, "correct horse")


async def test_a_second_init_overwrites_nothing(home: Home) -> None:
    before = home.root, await home.open_store().trust_documents(), home.token
    with pytest.raises(ConfigError, match="holds a signed repository already"):
        await initialize(home.config, "other")
    with pytest.raises(ConfigError, match="never overwritten"):
        await initialize(replace(home.config, store=str(home.folder / "new")), "other")
    assert before == (home.root, await home.open_store().trust_documents(), home.token)


async def test_a_token_that_is_there_is_kept(home: Home) -> None:
    home.config.admin_token_file.write_text("chosen by hand")
    fresh = replace(
        home.config, store=str(home.folder / "other-store"), keys_dir=home.folder / "other-keys"
    )
    await initialize(fresh, "passphrase")
    assert home.token == "chosen by hand"


async def test_an_empty_passphrase_makes_nothing(home: Home) -> None:
    keys = home.folder / "unsafe-keys"
    fresh = replace(home.config, store=str(home.folder / "s"), keys_dir=keys)
    with pytest.raises(ConfigError, match="passphrase"):
        await initialize(fresh, "")
    assert not keys.exists()
