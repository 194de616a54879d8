"""infra.kubernetes.secrets: what goes to which cluster, and what stays at home."""

from __future__ import annotations

import base64
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from edge_tier.gateway.auth import InvalidKeyError, KeyStore
from infra.kubernetes.secrets import (
    MAX_SECRET_BYTES,
    NAMESPACE,
    Folder,
    main,
    origin_objects,
    prepare,
    region_objects,
    secret,
)
from tests.fakes.kubernetes import OVERLAYS, Object, overlay, pods, tiers
from tests.fakes.kubernetes_checks import secret_keys
from wire.errors import ConfigError

SECRETS = "/run/secrets/headwater/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    made = Folder(tmp_path_factory.mktemp("home") / "keys")
    prepare(made, {}, "acme")
    return made


def values(objects: list[Object]) -> dict[str, dict[str, bytes]]:
    """What the Secrets hold, by name and key."""
    return {
        found["metadata"]["name"]: {
            key: base64.b64decode(text) for key, text in found["data"].items()
        }
        for found in objects
        if found["kind"] == "Secret"
    }


def everything(folder: Folder) -> list[Object]:
    return [*origin_objects(folder), *region_objects(folder)]


def test_keys_of_root_and_publisher_go_nowhere(folder: Folder) -> None:
    held = [value for data in values(everything(folder)).values() for value in data.values()]
    for name in ("keys/root.key", "keys/publisher.key", "root.passphrase", "api-key"):
        content = (folder.root / name).read_bytes().strip()
        assert content
        assert not [value for value in held if content in value], name


def test_a_region_cannot_sign_and_cannot_command_the_origin(folder: Folder) -> None:
    region = b"".join(v for data in values(region_objects(folder)).values() for v in data.values())
    assert b"PRIVATE KEY" not in region
    assert (folder.root / "admin-token").read_bytes().strip() not in region
    assert (folder.root / "edge-admin-token").read_bytes().strip() in region


def test_what_both_sides_share_is_the_same(folder: Folder) -> None:
    found = values(everything(folder))
    assert found["headwater-origin"]["edge-token"] == found["headwater-edge"]["edge-token"]
    assert found["headwater-edge"]["worker-token"] == found["headwater-worker"]["worker-token"]
    password = found["headwater-redis"]["auth.conf"].decode().split()[1]
    assert found["headwater-redis"]["url"].decode() == f"redis://:{password}@redis:6379/0"


def test_a_worker_is_given_one_token(folder: Folder) -> None:
    assert set(values(everything(folder))["headwater-worker"]) == {"worker-token"}


def test_doing_it_again_changes_nothing(folder: Folder) -> None:
    before = everything(folder)
    prepare(folder, {}, "another")
    assert everything(folder) == before


def test_what_was_added_goes_along(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    prepare(folder, {}, "acme")
    (folder.keys / "online.next.key").write_bytes(b"next")
    (tmp_path / "s3-credentials").write_bytes(b"[default]")
    found = values(origin_objects(folder))["headwater-origin"]
    assert (found["online.next.key"], found["s3-credentials"]) == (b"next", b"[default]")


def test_the_folder_is_closed_to_others(folder: Folder) -> None:
    secret_files = [p for p in folder.root.iterdir() if p.is_file()]
    assert len(secret_files) > 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret_files} == {0o600}
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_a_bucket_gets_the_repository_at_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "home")
    store = tmp_path / "bucket"
    prepare(folder, {"HEADWATER_ORIGIN__STORE": str(store)}, "acme")
    assert (store / "trust" / "documents.json").exists()
    assert "headwater-origin-seed" not in values(origin_objects(folder))


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_secret_that_a_pod_asks_for_is_made(folder: Folder, name: str) -> None:
    objects, made = overlay(name), everything(folder)
    secrets_made = values(made)
    known = {(o["kind"], o["metadata"]["name"]) for o in [*made, *objects]}
    for found in pods(objects):
        for volume in found.spec["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets_made, found.name
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in known, found.name
    for wanted, key in secret_keys(objects):
        assert key in secrets_made[wanted]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_file_that_a_tier_is_told_of_is_in_its_secret(folder: Folder, name: str) -> None:
    """But for those that may be missing: hashes of pull tokens, and a bucket's credentials, which
    nobody can make for the reader."""
    objects, made = overlay(name), values(everything(folder))
    for found in tiers(objects):
        config, secrets = found.volume("config"), found.volume("secrets")
        assert config is not None
        assert secrets is not None
        (text,) = [
            o["data"]["headwater.toml"]
            for o in objects
            if o["kind"] == "ConfigMap" and o["metadata"]["name"] == config["configMap"]["name"]
        ]
        wanted = set(re.findall(rf'"{SECRETS}([^"]+)"', text))
        assert wanted
        missing = wanted - set(made[secrets["secret"]["secretName"]])
        assert missing <= {"edge-pull-tokens.json", "s3-credentials"}, found.name


@pytest.mark.parametrize(
    ("cluster", "names"),
    [
        ("origin", {"headwater-origin", "headwater-origin-seed"}),
        ("region", {"headwater-edge", "headwater-worker", "headwater-redis", "headwater-trust"}),
    ],
)
def test_the_command_prints_a_list_for_kubectl(
    folder: Folder, capsys: pytest.CaptureFixture[str], cluster: str, names: set[str]
) -> None:
    assert main([str(folder.root), "--for", cluster]) == 0
    printed = capsys.readouterr()
    found: dict[str, Any] = json.loads(printed.out)
    assert (found["kind"], found["apiVersion"]) == ("List", "v1")
    assert {item["metadata"]["name"] for item in found["items"]} == names
    assert {item["metadata"]["namespace"] for item in found["items"]} == {NAMESPACE}
    assert "api-key" in printed.err


def test_keys_of_callers_are_made_and_ended_at_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path)

    def works(key: str) -> bool:
        callers = KeyStore.open(folder.file("keys.json"), folder.file("pepper"))
        try:
            callers.authenticate(f"Bearer {key}")
        except InvalidKeyError:
            return False
        return True

    assert main([str(tmp_path), "--for", "region", "--new-key", "globex"]) == 0
    file = Path(capsys.readouterr().err.split(": ")[1].strip())
    first, second = folder.api_key.read_text(), file.read_text()
    assert works(first)
    assert works(second)
    assert main([str(tmp_path), "--revoke-key", file.name.removeprefix("api-key-")]) == 0
    assert works(first)
    assert not works(second)
    assert not file.exists()
    assert main([str(tmp_path), "--revoke-key", "nobody"]) == 1


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "admin-token").write_text("open to all\n")
    (tmp_path / "admin-token").chmod(0o644)
    assert main([str(tmp_path)]) == 1
    assert "chmod 600" in capsys.readouterr().err


def test_a_secret_that_no_cluster_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="Secret keys has 1048577 B"):
        secret("keys", {"a": b"x" * MAX_SECRET_BYTES, "b": b"y"})
