"""Sets up a new origin: keys, the first root, an empty signed repository, an admin token."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from origin.config import OriginConfig
from origin.keys import init_keys
from origin.store import ObjectStore
from wire.errors import ConfigError
from wire.files import write_atomically


async def initialize(
    config: OriginConfig,
    passphrase: str,
    *,
    root_keys: int = 1,
    root_threshold: int = 1,
    grace_s: float | None = None,
) -> None:
    """Make everything that an origin needs before its first start.

    Args:
        passphrase: encrypts the root keys, which belong offline afterwards.
        root_keys: how many root keys.
        root_threshold: how many of them a later root needs.
        grace_s: how long past its expiry metadata may be worked from; None for a week.

    Raises:
        ConfigError: keys or a repository are there already; nothing was overwritten.
    """
    store = await asyncio.to_thread(ObjectStore, config.store, config=config.s3)
    if await store.trust_documents():
        raise ConfigError(f"the store {config.store} holds a signed repository already")
    keys = await asyncio.to_thread(
        init_keys,
        config.keys_dir,
        passphrase,
        now=time.time(),
        root_keys=root_keys,
        root_threshold=root_threshold,
        grace_s=grace_s,
    )
    await store.put_trust_documents(keys.repository.files)
    await asyncio.to_thread(make_admin_token, config.admin_token_file)


def make_admin_token(file: Path) -> bool:
    """Make an admin token where there is none; whether there was none. Blocking."""
    if file.exists():
        return False
    write_atomically(file, f"hwadm-{secrets.token_urlsafe(32)}".encode())
    return True
