"""What the first start on a state directory makes: keys, tokens, policies, an empty signed
repository. Every later start finds it again; nothing that exists is overwritten."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from infra.local_sites import Site
from infra.state import StateDir, ensure_secret, read_secret, write_private
from wire.errors import ConfigError
from wire.files import write_atomically
from wire.pull_tokens import PullTokens

POLICIES = Path(__file__).with_name("local_policies.toml")
"""What the policy file of a new state directory says."""


async def prepare(state: StateDir) -> None:
    """Make keys, tokens and an empty signed repository, unless they are there.

    Keys and store are made aside and moved into place when both are whole, so a first start that
    was cut off can be repeated, and nothing that exists is ever overwritten.

    Raises:
        ConfigError: they cannot be made.
    """
    ensure_secret(state.admin_token, "hwadm-")
    ensure_secret(state.edge_report_token, "hwedg-")
    ensure_secret(state.cloud_token, "hwcld-")
    if not state.edge_policies.exists():
        write_atomically(state.edge_policies, POLICIES.read_bytes())
    staging, whole = state.root / ".initializing", state.root / ".initialized"
    if not whole.exists() and not state.keys.exists():
        await _initialize(state, staging)
        staging.rename(whole)
    if whole.exists():
        for made in sorted(whole.iterdir()):
            made.rename(state.root / made.name)
        whole.rmdir()


def prepare_site(site: Site) -> None:
    """Make a site's folders and tokens, unless they are there.

    Raises:
        ConfigError: they cannot be made.
    """
    site.home.make()
    ensure_secret(site.home.worker_token, "hwwrk-")
    _ensure_edge_pull_token(site)


def _ensure_edge_pull_token(site: Site) -> None:
    """What the edge shows to the origin, which opens every model to it."""
    tokens = PullTokens.open(site.shared.pull_tokens("origin"))
    file = site.home.edge_pull_token
    with contextlib.suppress(ConfigError):
        if tokens.reader(read_secret(file)) is not None:
            return
    _, token = tokens.mint(("*",), note=f"the {site.node('edge')} on this machine")
    write_private(file, f"{token}\n".encode())


async def _initialize(state: StateDir, staging: Path) -> None:
    from origin.config import OriginConfig
    from origin.init import initialize

    await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    made = StateDir(staging)
    passphrase = ensure_secret(made.passphrase_file, "")
    config = OriginConfig(
        store=str(made.origin_store), keys_dir=made.keys, admin_token_file=state.admin_token
    )
    await initialize(config, passphrase)
