"""docs/how-to/recover.md where a store is lost: an edge or an old file brings it back."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fleet import eventually, get, tier_status
from tests.fakes.headwater import COMMAND, ROOT, environment
from tests.fakes.markdown import commands_of
from tests.fakes.store_origin import Origin, running
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.errors import HeadwaterError
from wire.manifest import decode
from wire.paths import FILES, manifest_path

RESTORE, REPAIR, ROTATE, VERIFY = commands_of("how-to/recover.md")
LIMIT = 1 << 24


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    """An origin that keeps its address when it is started again."""
    made = Origin(tmp_path / "origin", str(tmp_path / "origin" / "store"))
    made.init()
    with running(made):
        made.settings = {"PORT": made.url.rpartition(":")[2]}
        yield made


@pytest.fixture
def edge(origin: Origin, tmp_path: Path) -> Iterator[str]:
    """The URL of an edge in a process of its own."""
    with edge_of(origin, tmp_path / "edge") as url:
        yield url


@contextmanager
def edge_of(origin: Origin, folder: Path) -> Iterator[str]:
    folder.mkdir()
    ready, log = folder / "ready.json", folder / "log"
    settings = {
        "PORT": "0",
        "ORIGINS": json.dumps([origin.url]),
        "TRUST_ROOT": str(origin.home / "keys" / "root.json"),
        "TRUST_DIR": str(folder / "trust"),
        "REFRESH_S": "0.2",
        "READY_FILE": str(ready),
        "ADMIN_TOKEN_FILE": str(origin.token_file),
        "WORKER_TOKEN_FILE": str(origin.token_file),
        "CACHE__FOLDER": str(folder / "cache"),
        "GATEWAY__KEYS_FILE": str(folder / "keys.json"),
        "GATEWAY__PEPPER_FILE": str(folder / "pepper"),
        "PULL_TOKENS_FILE": str(folder / "pull-tokens.json"),
    }
    environ = environment({f"HEADWATER_EDGE__{name}": value for name, value in settings.items()})
    with log.open("wb") as output:
        argv = [sys.executable, "-m", "edge_tier"]
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=output, stderr=output)
    try:
        eventually(lambda: ready.exists() or process.poll() is not None)
        assert ready.exists(), log.read_text()
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait(20)


def headwater(origin: Origin, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """What the page says, at this origin."""
    return typed(command, f"--origin={origin.url}", f"--token-file={origin.token_file}", *more)


def typed(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """What the page says."""
    program, *words = shlex.split(command, comments=True)
    assert program == "headwater"
    return subprocess.run(
        [*COMMAND, *words, *more],
        cwd=ROOT,
        env=environment({"HEADWATER_ROOT_PASSPHRASE": "passphrase"}),
        capture_output=True,
        text=True,
        timeout=60,
    )


def trust_of(url: str, origin: Origin) -> dict[str, Any]:
    """What an edge or origin has verified; empty where it has not yet, or does not answer."""
    try:
        found: dict[str, Any] = tier_status(url, origin.token)["trust"]["versions"]
    except HeadwaterError:
        return {}
    return found


def published(origin: Origin, edge: str, folder: Path) -> dict[str, bytes]:
    """A model, and its files by path as the edge gives them; the edge has the whole of it."""
    model = write_tiny_gguf(folder / "model.gguf", n_layer=4, seed=1)
    with origin.desk() as desk:
        revision = desk.publish(model, "chat", "stable").revision
    manifest = decode(bytes(origin.get(manifest_path(revision)).body), revision)
    paths = [f"{FILES}/{revision}/{entry.path}" for entry in manifest.files]
    eventually(lambda: tier_status(edge, origin.token)["models"].get("chat") == revision)
    return {path: get(edge, path, LIMIT) for path in paths}


def agree(edge: str, origin: Origin) -> bool:
    """Whether the edge has verified what the origin has signed last."""
    return bool(found := trust_of(origin.url, origin)) and trust_of(edge, origin) == found


def test_a_lost_store_comes_back_from_the_keys_and_an_edge(
    origin: Origin, edge: str, tmp_path: Path
) -> None:
    whole = published(origin, edge, tmp_path)
    eventually(lambda: agree(edge, origin))
    before = trust_of(origin.url, origin)

    origin.kill()
    shutil.rmtree(origin.store)
    config = tmp_path / "headwater.toml"
    config.write_text(
        f"""
        [origin]
        store = "{origin.store}"
        keys_dir = "{origin.home}/keys"
        admin_token_file = "{origin.token_file}"
        """
    )
    edges = (("http://edge-1:7401", edge), ("http://edge-2:7401", "http://127.0.0.1:9"))
    command = RESTORE.replace("headwater.toml", str(config))
    for named, is_at in edges:
        assert named in command
        command = command.replace(named, is_at)
    restored = typed(command, "--json")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    told = json.loads(restored.stdout)
    assert told["versions"] == before
    assert told["source"] == edge
    assert "cannot connect" in told["edges"]["http://127.0.0.1:9"]

    origin.start()
    assert {path: bytes(origin.get(path).body) for path in whole} == whole
    assert headwater(origin, VERIFY).returncode == 0
    renewed = headwater(origin, "headwater origin renew", f"--keys={origin.home / 'keys'}")
    assert renewed.returncode == 0, renewed.stderr
    eventually(lambda: agree(edge, origin))  # the edge goes on from where it was
    assert trust_of(edge, origin)["timestamp"] > before["timestamp"]
    assert typed(command).returncode == 2  # there is a store now


def test_a_lost_store_comes_back_from_an_old_file_the_keys_and_an_edge(
    origin: Origin, edge: str, tmp_path: Path
) -> None:
    whole = published(origin, edge, tmp_path)
    path = next(iter(whole))
    keys = f"--keys={origin.home / 'keys'}"
    documents = Path(origin.store) / "trust" / "documents.json"
    backup = documents.read_bytes()
    for _ in range(2):  # the edge sees newer numbers than stand in the backup
        assert headwater(origin, "headwater origin renew", keys).returncode == 0
    seen = trust_of(origin.url, origin)["timestamp"]
    eventually(lambda: trust_of(edge, origin).get("timestamp") == seen)

    origin.kill()
    shutil.rmtree(origin.store)
    documents.parent.mkdir(parents=True)
    documents.write_bytes(backup)
    origin.start()
    assert trust_of(origin.url, origin)["timestamp"] < seen
    assert headwater(origin, VERIFY).returncode == 1  # nothing but the list is there

    repaired = headwater(origin, REPAIR.replace("http://edge-1:7401", edge))
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert {path: bytes(origin.get(path).body) for path in whole} == whole
    assert trust_of(edge, origin)["timestamp"] == seen  # it refuses what is older, and serves

    rotated = headwater(origin, ROTATE, keys)
    assert rotated.returncode == 0, rotated.stdout + rotated.stderr
    eventually(lambda: agree(edge, origin))
    assert headwater(origin, VERIFY).returncode == 0
    assert get(edge, path, LIMIT) == whole[path]


def test_without_the_file_an_origin_says_what_is_missing(origin: Origin) -> None:
    origin.kill()
    shutil.rmtree(origin.store)
    with pytest.raises(AssertionError, match=r"1\.root\.json is not in the store; restore it"):
        origin.start()
