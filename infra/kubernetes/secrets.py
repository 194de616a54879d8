"""``python -m infra.kubernetes.secrets FOLDER``: makes keys, tokens and an empty signed repository
where FOLDER has none, and prints the Secrets of a cluster for ``kubectl apply -f -``.

FOLDER is the one copy of everything; keep it where you keep passwords. The root key, its passphrase
and the publisher's key stay there and go to no cluster. Doing it again changes nothing and prints
the same, so what was added (``online.next.key``, ``s3-credentials``) is brought to the cluster in
the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tier.gateway.auth import KeyStore
from infra.state import ensure_secret, read_secret, write_private
from origin.config import OriginConfig
from origin.init import initialize
from wire.errors import ConfigError, HeadwaterError
from wire.pull_tokens import PullTokens
from wire.settings import load

NAMESPACE = "headwater"
MAX_SECRET_BYTES = 1024 * 1024
"""All values of one Secret together (kubernetes.io/docs/concepts/configuration/secret)."""
_REGION_FILES = (
    "worker-token",
    "edge-token",
    "origin-pull-token",
    "edge-pull-tokens.json",
    "keys.json",
    "pepper",
)
_REDIS_URL = "redis://:{password}@redis:6379/0"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where things are below FOLDER. Paths only."""

    root: Path

    @property
    def passphrase(self) -> Path:
        return self.root / "root.passphrase"

    @property
    def keys(self) -> Path:
        """The publisher's and the root's too: these stay here."""
        return self.root / "keys"

    @property
    def store(self) -> Path:
        """The origin's objects, where they are not in a bucket."""
        return self.root / "store"

    @property
    def seed(self) -> Path:
        return self.store / "trust" / "documents.json"

    @property
    def api_key(self) -> Path:
        """The first one, for clients."""
        return self.root / "api-key"

    def file(self, name: str) -> Path:
        """A file that goes to a cluster under its own name."""
        return self.root / name


def prepare(folder: Folder, environ: Mapping[str, str], tenant: str) -> None:
    """Make what is missing. Blocks.

    Args:
        environ: the origin's settings (``HEADWATER_ORIGIN__STORE`` and so on); its store is a
            folder below this one where they name none.
        tenant: for whom the first API key is made.

    Raises:
        HeadwaterError: something cannot be made, or a file that is here cannot be used.
    """
    folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, prefix in (
        ("admin-token", "hwadm-"),
        ("edge-admin-token", "hwadm-"),
        ("worker-token", "hwwrk-"),
        ("edge-token", "hwedg-"),
        ("redis-password", ""),
    ):
        ensure_secret(folder.file(name), prefix)
    if not folder.keys.exists():
        asyncio.run(initialize(_origin(folder, environ), ensure_secret(folder.passphrase, "")))
    if not folder.file("origin-pull-token").exists():
        tokens = PullTokens.open(folder.file("origin-pull-tokens.json"))
        _, token = tokens.mint(["*"], note="edges")
        write_private(folder.file("origin-pull-token"), token.encode())
    if not folder.api_key.exists():
        _, key = _callers(folder).create(tenant=tenant, note="the first one")
        write_private(folder.api_key, key.encode())


def add_caller(folder: Folder, tenant: str) -> Path:
    """Make one more API key; the file that holds it. Raises as ``KeyStore.create``."""
    record, key = _callers(folder).create(tenant=tenant)
    file = folder.file(f"api-key-{record.key_id}")
    write_private(file, key.encode())
    return file


def end_caller(folder: Folder, key_id: str) -> None:
    """Revoke an API key for good. Raises as ``KeyStore.revoke``."""
    _callers(folder).revoke(key_id)
    folder.file(f"api-key-{key_id}").unlink(missing_ok=True)


def _callers(folder: Folder) -> KeyStore:
    return KeyStore.open(folder.file("keys.json"), folder.file("pepper"))


def _origin(folder: Folder, environ: Mapping[str, str]) -> OriginConfig:
    given = {
        "keys_dir": str(folder.keys),
        "admin_token_file": str(folder.file("admin-token")),
    }
    if "HEADWATER_ORIGIN__STORE" not in environ:
        given["store"] = str(folder.store)
    return load("origin", OriginConfig, file=None, environ=environ, overrides=given)


def origin_objects(folder: Folder) -> list[dict[str, object]]:
    """What the origin's cluster gets."""
    files = {name: folder.keys / name for name in ("online.key", "online.next.key")}
    for name in ("admin-token", "edge-token", "origin-pull-tokens.json", "s3-credentials"):
        files[name] = folder.file(name)
    objects = [secret("headwater-origin", _read(files))]
    if folder.seed.exists():
        seed = {"documents.json": folder.seed.read_bytes()}
        objects.append(secret("headwater-origin-seed", seed))
    return objects


def region_objects(folder: Folder) -> list[dict[str, object]]:
    """What the cluster of a region gets: nothing of it can sign, or opens an origin's /admin."""
    files = {"admin-token": folder.file("edge-admin-token")}
    for name in _REGION_FILES:
        files[name] = folder.file(name)
    password = read_secret(folder.file("redis-password"))
    redis = {
        "auth.conf": f"requirepass {password}\n".encode(),
        "url": _REDIS_URL.format(password=password).encode(),
    }
    root = (folder.keys / "root.json").read_text()
    return [
        secret("headwater-edge", _read(files)),
        secret("headwater-worker", _read({"worker-token": folder.file("worker-token")})),
        secret("headwater-redis", redis),
        _object("ConfigMap", "headwater-trust", data={"root.json": root}),
    ]


def secret(name: str, values: Mapping[str, bytes]) -> dict[str, object]:
    """A Secret. Raises ``ConfigError`` where it is larger than a cluster takes."""
    size = sum(map(len, values.values()))
    if size > MAX_SECRET_BYTES:
        raise ConfigError(f"Secret {name} has {size} B; a cluster takes {MAX_SECRET_BYTES} B")
    data = {key: base64.b64encode(value).decode() for key, value in sorted(values.items())}
    return _object("Secret", name, type="Opaque", data=data)


def _object(kind: str, name: str, **fields: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def _read(files: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items() if path.exists()}


_FOR = {
    "origin": (origin_objects,),
    "region": (region_objects,),
    "all": (origin_objects, region_objects),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 where something is wrong, which stderr says."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.kubernetes.secrets", description=__doc__.partition(":")[2].strip()
    )
    parser.add_argument("folder", type=Path, help="the one copy of keys and tokens")
    parser.add_argument("--for", dest="cluster", choices=sorted(_FOR), default="all")
    parser.add_argument("--tenant", default="first", help="of the first API key")
    parser.add_argument("--new-key", metavar="TENANT", help="make one more API key")
    parser.add_argument("--revoke-key", metavar="ID", help="end an API key")
    given = parser.parse_args(argv)
    folder = Folder(given.folder)
    shown = folder.api_key
    try:
        prepare(folder, os.environ, given.tenant)
        if given.revoke_key:
            end_caller(folder, given.revoke_key)
        if given.new_key:
            shown = add_caller(folder, given.new_key)
        items = [item for make in _FOR[given.cluster] for item in make(folder)]
    except (HeadwaterError, OSError) as error:
        print(f"secrets: {error}", file=sys.stderr)
        return 1
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout, indent=1)
    print(f"\nAPI key for clients: {shown}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
