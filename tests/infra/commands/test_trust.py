"""``headwater origin trust | rotate | renew | new-key``, against an origin that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from origin.app import PUBLISHER, build_app
from origin.config import OriginConfig
from origin.init import initialize
from origin.keys import load_key, write_public
from origin.offline import sign_revisions
from tests.fakes.quick_disk import quick_folder

PASSPHRASE = "correct horse"


@dataclass
class Site:
    """An origin that runs, and a command line beside it."""

    folder: Path
    server: TestServer

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of ``headwater origin ...``."""
        environ = {
            "HEADWATER_ADMIN_TOKEN": (self.folder / "token").read_text(),
            "HEADWATER_ROOT_PASSPHRASE": PASSPHRASE,
            "COLUMNS": "200",
        }
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["origin", *arguments], env=environ
        )
        return result.exit_code, result.stdout, result.stderr

    async def online(self, *arguments: str) -> dict[str, Any]:
        """The JSON of a command that talks to the origin, and ended well."""
        status, out, err = await self.run(*arguments, *self.reached, "--json")
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    @property
    def reached(self) -> list[str]:
        return ["--origin", f"http://127.0.0.1:{self.server.port}", "--keys", str(self.keys)]

    @property
    def versions(self) -> dict[str, int]:
        return dict(self.server.app[PUBLISHER].repository.view.versions)


Start = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start an origin; the arguments are ``origin init``'s."""
    servers = []
    with quick_folder() as folder:

        async def run(**init: Any) -> Site:
            config = OriginConfig(
                store=str(folder / "store"),
                keys_dir=folder / "keys",
                admin_token_file=folder / "token",
            )
            await initialize(config, PASSPHRASE, **init)
            server = TestServer(await build_app(config))
            await server.start_server()
            servers.append(server)
            return Site(folder, server)

        yield run
        for server in servers:
            await server.close()


def key_ids(found: dict[str, Any], role: str) -> set[str]:
    return {key["id"] for part in found["roles"] if part["role"] == role for key in part["keys"]}


async def test_trust_is_shown(start: Start) -> None:
    site = await start(root_keys=3, root_threshold=2, grace_s=3 * 86_400)
    found = await site.online("trust")
    assert (found["state"], found["grace_s"], found["warnings"]) == ("fresh", 3 * 86_400, [])
    assert len(key_ids(found, "root")) == 3
    status, text, _ = await site.run("trust", *site.reached)
    assert status == 0
    assert "2 of 3" in text
    assert "3 days" in text
    assert "ed25519" in text


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ([], set()),
        (["--root"], {"root"}),
        (["--publisher"], {"targets", "revisions"}),
        (["--online"], {"timestamp", "snapshot", "channels"}),
        (
            ["--root", "--publisher", "--online"],
            {"root", "targets", "revisions", "timestamp", "snapshot", "channels"},
        ),
    ],
)
async def test_rotation_in_one_step_and_again(
    start: Start, flags: list[str], changed: set[str]
) -> None:
    site = await start(root_keys=2, root_threshold=2)
    before = await site.online("trust")
    after = await site.online("rotate", *flags)
    for part in before["roles"]:
        role = part["role"]
        assert (key_ids(before, role) != key_ids(after, role)) == (role in changed), role
    assert site.versions["root"] == 2
    assert not list(site.keys.glob("*.next.*"))
    again = await site.online("rotate", *flags)
    assert site.versions["root"] == 3
    assert again["warnings"] == []


async def test_publisher_goes_on_with_the_new_key(start: Start) -> None:
    site = await start()
    await site.online("rotate", "--publisher")
    publisher = site.server.app[PUBLISHER]
    current = publisher.repository.trusted.bundle.roles["revisions"]
    key = load_key(site.keys / "publisher.key")
    await publisher.publish(sign_revisions(current, key, now=2e9))


async def test_more_root_keys_and_back(start: Start) -> None:
    site = await start()
    three = await site.online("rotate", "--root", "--root-keys", "3", "--root-threshold", "2")
    assert len(key_ids(three, "root")) == 3
    assert {p.name for p in site.keys.glob("root*.key") if "retired" not in p.name} == {
        "root-1.key",
        "root-2.key",
        "root-3.key",
    }
    one = await site.online("rotate", "--root", "--root-keys", "1", "--root-threshold", "1")
    assert len(key_ids(one, "root")) == 1
    await site.online("rotate", "--offline-grace-days", "2")
    assert (await site.online("trust"))["grace_s"] == 2 * 86_400


async def test_ceremony_over_several_machines(start: Start, tmp_path: Path) -> None:
    """Two of three root holders, a new one of whom brings her own key; the origin is only asked
    at the beginning and at the end."""
    site = await start(root_keys=3, root_threshold=2)
    root_file, file = str(site.keys / "root.json"), str(tmp_path / "next.json")
    alice = tmp_path / "alice.key"
    assert (await site.run("new-key", str(alice)))[0] == 0
    old = [site.keys / f"root-{number}.key" for number in (1, 2, 3)]
    publics = [tmp_path / "alice.key.pub"]
    for number in (1, 2):
        public = tmp_path / f"old-{number}.pub"
        write_public(public, load_key(old[number - 1], PASSPHRASE).public_key)
        publics.append(public)
    given = [part for public in publics for part in ("--root-key", str(public))]
    told = await site.online("rotate", *given, "--prepare", file)
    assert [text.split(" (")[0] for text in told["missing"]] == [
        "root: 2 more of the old root keys",
        "root: 2 more of the new root keys",
    ]
    status, _, err = await site.run("rotate", "--submit", file, *site.reached)
    assert (status, "2 more of the old root keys" in err) == (FAILED, True)
    for key in (alice, old[0]):
        status, out, err = await site.run(
            *("rotate", "--sign", file, "--key", str(key), "--trust-root", root_file, "--json")
        )
        assert status == 0, err
    left = json.loads(out)["missing"]
    assert [text.split(" (")[0] for text in left] == ["root: 1 more of the old root keys"]
    status, out, err = await site.run(
        *("rotate", "--sign", file, "--key", str(old[2]), "--trust-root", root_file)
    )
    assert (status, "--submit" in out) == (0, True), err
    done = await site.online("rotate", "--submit", file)
    assert (done["accepted"], site.versions["root"]) == (True, 2)
    again = await site.online("rotate", "--submit", file)
    assert (again["accepted"], site.versions["root"]) == (False, 2)


async def test_renewal_with_the_publishers_key(start: Start) -> None:
    site = await start()
    before = site.versions
    found = await site.online("renew")
    assert found["warnings"] == []
    assert site.versions["targets"] == before["targets"] + 1
    assert site.versions["revisions"] == before["revisions"] + 1
    assert site.versions["root"] == 1


async def test_what_cannot_be_meant_is_a_usage_error(start: Start, tmp_path: Path) -> None:
    site = await start()
    file = tmp_path / "there.json"
    file.write_text("{}")
    root = ["--trust-root", str(site.keys / "root.json")]
    for arguments, told in (
        (["rotate", "--sign", "a", "--submit", "b"], "give one of"),
        (["rotate", "--key", "a"], "goes with --sign"),
        (["rotate", "--root-keys", "3"], "goes with --root"),
        (["rotate", "--sign", "a", *root], "needs --key"),
        (["rotate", "--prepare", str(file)], "is there already"),
        (["rotate", "--submit", "nowhere.json"], "cannot read the rotation"),
        (["rotate", "--root-key", "a.pub"], "use --prepare"),
        (["trust", "--trust-root", "nowhere.json"], "cannot read the trust root"),
    ):
        status, _, err = await site.run(*arguments, *site.reached)
        assert (status, told in err) == (USAGE, True), (arguments, err)
    status, _, err = await site.run("rotate", "--submit", str(file), *site.reached)
    assert (status, "not a rotation file" in err) == (FAILED, True)


async def test_wrong_passphrase_and_wrong_root_change_nothing(start: Start) -> None:
    site = await start()
    wrong = site.folder / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    status, _, err = await site.run("rotate", *site.reached, "--passphrase-file", str(wrong))
    assert (status, "passphrase" in err) == (USAGE, True)
    assert site.versions["root"] == 1


def test_init_makes_the_root_keys_that_were_asked_for(tmp_path: Path) -> None:
    environ = {
        "HEADWATER_ROOT_PASSPHRASE": PASSPHRASE,
        "HEADWATER_ORIGIN__STORE": str(tmp_path / "store"),
        "HEADWATER_ORIGIN__KEYS_DIR": str(tmp_path / "keys"),
        "HEADWATER_ORIGIN__ADMIN_TOKEN_FILE": str(tmp_path / "token"),
    }
    arguments = ["origin", "init", "--root-keys", "3", "--root-threshold"]
    refused = CliRunner().invoke(app, [*arguments, "4"], env=environ)
    assert (refused.exit_code, "root threshold of 4" in refused.stderr) == (USAGE, True)
    assert not (tmp_path / "keys").exists()
    made = CliRunner().invoke(app, [*arguments, "2", "--json"], env=environ)
    assert made.exit_code == 0, made.stderr
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "online.key",
        "publisher.key",
        "root-1.key",
        "root-2.key",
        "root-3.key",
        "root.json",
    ]
