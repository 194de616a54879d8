"""Origins on a folder and on S3, killed and taken down: what was signed is whole, always."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.upkeep import prune
from origin.publish import Published
from tests.fakes.fleet import eventually
from tests.fakes.headwater import ROOT
from tests.fakes.headwater import headwater as run_headwater
from tests.fakes.publishing import chunk_file, flip_bit
from tests.fakes.quick_disk import quick_folder
from tests.fakes.s3 import S3, s3_server, set_credentials
from tests.fakes.store_origin import Origin, running
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.errors import ConflictError, HeadwaterError
from wire.manifest import Manifest, decode
from wire.paths import FILES, TAKEDOWNS, channel_path, chunk_path, manifest_path

AFTER = 3
"""Chunks that have arrived when somebody is killed."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models whose weights differ, and whose vocabulary is the same."""
    folder = tmp_path_factory.mktemp("models")
    return [write_tiny_gguf(folder / f"{seed}.gguf", n_layer=12, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def origin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """A new origin that runs, on a folder and on a bucket."""
    with quick_folder() as folder:
        if request.param == "folder":
            made = Origin(folder, str(folder / "store"))
        else:
            made = in_bucket(request.getfixturevalue("s3"), folder, monkeypatch)
        made.init()
        with running(made):
            yield made


def in_bucket(s3: S3, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Origin:
    set_credentials(monkeypatch)
    return Origin(folder, s3.location(folder.name), s3.config, s3.environ)


def publish(origin: Origin, file: Path, channel: str = "stable", **options: Any) -> Published:
    with origin.desk() as desk:
        return desk.publish(file, "chat", channel, **options)


def manifest_of(origin: Origin, revision: str) -> Manifest:
    answer = origin.get(manifest_path(revision))
    assert answer.status == 200
    return decode(bytes(answer.body), revision)


def assert_whole(origin: Origin, revision: str, file: Path) -> None:
    """The channel leads to the revision, and its weights are the file."""
    pointer = msgspec.json.decode(origin.get(channel_path("chat", "stable")).body)
    assert pointer["revision"] == revision
    weights = manifest_of(origin, revision).by_role("weights")[0]
    assert bytes(origin.get(f"{FILES}/{revision}/{weights.path}").body) == file.read_bytes()


def test_an_origin_publishes_rolls_starts_again_and_takes_down(
    origin: Origin, models: list[Path]
) -> None:
    first, second = publish(origin, models[0]), publish(origin, models[1])
    assert_whole(origin, second.revision, models[1])
    assert 0 < second.sent_chunks < second.chunks
    with origin.desk() as desk:
        desk.origin.roll("chat", "stable", first.revision)
    origin.restart()
    assert_whole(origin, first.revision, models[0])
    shared, only = split(origin, first.revision, second.revision)
    with origin.desk() as desk:
        desk.origin.purge(f"revision:{second.revision}", hard=True)
    for _ in range(2):
        assert origin.get(manifest_path(second.revision)).status == 410
        assert {origin.get(chunk_path(name)).status for name in only} == {410}
        assert_whole(origin, first.revision, models[0])
        assert {origin.get(chunk_path(name)).status for name in shared} == {200}
        listed = msgspec.json.decode(origin.get(TAKEDOWNS).body)
        assert listed["keys"] == [f"revision:{second.revision}"]
        origin.restart()


def split(origin: Origin, first: str, second: str) -> tuple[set[str], set[str]]:
    """The chunks that two revisions share, and those of the second alone."""
    one, two = (set(manifest_of(origin, r).chunk_refs()) for r in (first, second))
    assert one & two
    assert two - one
    return {str(name) for name in one & two}, {str(name) for name in two - one}


_PUBLISHER = """
import os, signal, sys
from pathlib import Path
from infra.publishing import open_publisher
url, token, key, file, after = sys.argv[1:]
sent = []
def progress(step, done, total):
    if step == "send":
        sent.append(done)
        if len(sent) == int(after):
            os.kill(os.getpid(), signal.SIGKILL)
with open_publisher(url, Path(token).read_text(), Path(key)) as desk:
    desk.publish(Path(file), "chat", "stable", progress=progress)
"""


def test_a_publisher_killed_in_the_middle_sends_only_the_rest_the_next_time(
    origin: Origin, models: list[Path]
) -> None:
    first = publish(origin, models[0])
    arguments = (origin.url, origin.token_file, origin.publisher_key, models[1], AFTER)
    killed = subprocess.run(
        [sys.executable, "-c", _PUBLISHER, *map(str, arguments)], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert_old_state(origin, first, models[0])
    second = publish(origin, models[1])
    assert_only_the_rest_was_sent(origin, first, second)
    assert_whole(origin, second.revision, models[1])


def test_an_origin_killed_in_the_middle_has_the_old_revision_whole(
    origin: Origin, models: list[Path]
) -> None:
    first = publish(origin, models[0])
    seen: list[int] = []

    def kill(step: str, done: int, _total: int) -> None:
        if step == "send":
            seen.append(done)
            if len(seen) == AFTER:
                origin.kill_in_passing()

    with pytest.raises(HeadwaterError):
        publish(origin, models[1], progress=kill)
    origin.kill()
    origin.start()
    assert_old_state(origin, first, models[0])
    second = publish(origin, models[1])
    assert_only_the_rest_was_sent(origin, first, second)
    assert_whole(origin, second.revision, models[1])


def assert_old_state(origin: Origin, first: Published, file: Path) -> None:
    """Nobody can see anything of what was begun."""
    assert_whole(origin, first.revision, file)
    assert [one["revision"] for one in origin.status()["revisions"]] == [first.revision]


def assert_only_the_rest_was_sent(origin: Origin, first: Published, second: Published) -> None:
    """At least what was acknowledged is not sent again.

    The rest may have arrived, too: chunks on their way can be quicker than whoever kills.
    """
    _, only = split(origin, first.revision, second.revision)
    assert len(only) > AFTER
    assert second.sent_chunks <= len(only) - AFTER


def test_garbage_goes_what_is_pinned_stays_and_the_store_is_sound(
    origin: Origin, models: list[Path]
) -> None:
    first, second = publish(origin, models[0]), publish(origin, models[1])
    _, only = split(origin, second.revision, first.revision)
    origin.stop()
    origin.settings = {"GC__GRACE_S": "0"}
    origin.start()
    pin = {"model": "chat", "revision": first.revision}
    with origin.upkeep() as admin:
        assert admin.post("pins", pin) == {"pins": [pin]}
        keeps: Any = {"keep_recent": 0, "keep_younger_s": 0.0}
        assert prune(admin, origin.publisher_key, **keeps) == []
        assert admin.run("gc", {})["removed_chunks"] == 0
        admin.post("pins", {**pin, "remove": True})
    key = f"--publisher-key={origin.publisher_key}"
    collected = headwater(origin, "gc", "--prune", "--keep-recent=0", "--keep-days=0", key)
    assert [one["revision"] for one in collected["pruned"]] == [first.revision]
    assert (collected["removed_revisions"], collected["removed_chunks"]) == (1, len(only))
    assert origin.get(manifest_path(first.revision)).status == 404
    assert_whole(origin, second.revision, models[1])
    report = headwater(origin, "verify")
    assert report["chunks"] == second.chunks
    assert [report[name] for name in ("missing", "rotten", "bad_manifests")] == [[], [], {}]


def headwater(origin: Origin, *arguments: str, status: int = 0) -> Any:
    """A command against the origin; its JSON."""
    ends = (f"--origin={origin.url}", f"--token-file={origin.token_file}")
    code, document, notes = run_headwater(*arguments, *ends, state_dir=origin.folder / "none")
    assert code == status, notes
    return document


def test_rot_is_found_and_repaired_from_another_origin(
    tmp_path: Path, s3: S3, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = in_bucket(s3, tmp_path / "sound", monkeypatch)
    rotten = Origin(tmp_path / "rotten", str(tmp_path / "rotten" / "store"))
    sound.init()
    rotten.init()
    with running(sound), running(rotten):
        made = publish(rotten, models[0])
        assert publish(sound, models[0]).revision == made.revision
        store = Path(rotten.store)
        names = [str(name) for name in manifest_of(rotten, made.revision).chunk_refs()]
        flip_bit(chunk_file(store, names[0]))
        chunk_file(store, names[1]).unlink()
        flip_bit(store / "manifests" / made.revision)
        with rotten.upkeep() as admin:
            found = admin.run("verify", {})
        assert found["rotten"] == [names[0]]
        assert list(found["bad_manifests"]) == [made.revision]
        repaired = headwater(rotten, "verify", f"--repair-from={sound.url}")
        assert repaired["repair"]["failed"] == {}
        assert repaired["repair"]["chunks"] == 2
        with rotten.upkeep() as admin:
            assert admin.run("verify", {})["chunks"] == len(names)
        assert_whole(rotten, made.revision, models[0])


def test_two_origins_on_one_bucket_lose_no_change(
    tmp_path: Path, s3: S3, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = in_bucket(s3, tmp_path / "one", monkeypatch)
    one.init()
    quick = {"REFRESH_S": "0.05"}
    one.settings = quick
    two = Origin(tmp_path / "two", one.store, one.s3, one.environ, one.folder, quick)
    with running(one), running(two):
        first = publish(one, models[0])
        eventually(lambda: two.get(manifest_path(first.revision)).status == 200)
        second = publish(two, models[1])
        rolls = [
            threading.Thread(target=roll_often, args=(origin, f"c{number}", first.revision))
            for number, origin in enumerate((one, two))
        ]
        for thread in rolls:
            thread.start()
        for thread in rolls:
            thread.join()
        wanted = {f"c{number}-{turn}" for number in (0, 1) for turn in range(3)} | {"stable"}
        for origin in (one, two):
            eventually(lambda origin=origin: wanted <= channels(origin))  # type: ignore[misc]
            assert_whole(origin, second.revision, models[1])
        with one.desk() as desk:
            desk.origin.purge(f"revision:{first.revision}", hard=True)
        eventually(lambda: two.get(manifest_path(first.revision)).status == 410)
    one.start()
    assert channels(one) == wanted
    one.kill()


def roll_often(origin: Origin, name: str, revision: str) -> None:
    with origin.desk() as desk:
        for turn in range(3):
            while True:
                try:
                    desk.origin.roll("chat", f"{name}-{turn}", revision)
                    break
                except ConflictError:
                    continue


def channels(origin: Origin) -> set[str]:
    return {one["channel"] for one in origin.status()["channels"]}
