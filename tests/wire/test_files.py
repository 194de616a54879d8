from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wire.files import open_to_others, sync_folder, write_atomically


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ready.json"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "folder"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_atomically(taken, b"new")
    assert list(tmp_path.iterdir()) == [taken]


def test_only_a_folder_s_names_can_be_made_durable(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(file)


OURS, ROOT = 10_001, 0
READERS = """
import os, sys
from pathlib import Path
from edge_tier.gateway.private_files import read_private
from origin.keys import load_key
from wire.http_server import read_token
from wire.pull_tokens import PullTokens
folder, user = Path(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setgid(user)
os.setuid(user)
for read in (
    lambda: load_key(folder / "online.key"),
    lambda: read_token(folder / "token"),
    lambda: read_private(folder / "token", limit_bytes=99),
    lambda: PullTokens.open(folder / "pull-tokens.json"),
):
    try:
        read()
        print("read")
    except Exception as error:
        print("refused" if "others" in str(error) else repr(error))
"""


def found(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, OURS, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o600, OURS, OURS, False),
        (0o400, OURS, OURS, False),
        (0o440, OURS, OURS, True),  # we could have closed it ourselves
        (0o440, ROOT, OURS, False),  # a Secret's volume with fsGroup
        (0o640, ROOT, OURS, False),
        (0o660, ROOT, OURS, True),
        (0o450, ROOT, OURS, True),
        (0o444, ROOT, OURS, True),
        (0o441, ROOT, OURS, True),
        (0o440, ROOT, ROOT, True),  # to root, root's file is its own
        (0o440, 10_002, OURS, True),  # of another user, who may be anybody
        (0o600, 10_002, OURS, False),
    ],
)
def test_who_else_may_touch_a_secret(mode: int, owner: int, user: int, is_open: bool) -> None:
    assert open_to_others(Path("token"), found(mode, owner), user=user, environ={}) is is_open


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A folder as the kubelet mounts a Secret for a pod with fsGroup; only root can make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another group")
    from origin.keys import new_key

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        new_key(folder / "online.key")
        (folder / "token").write_text("secret")
        (folder / "pull-tokens.json").write_text(
            '{"format": "headwater.pull-tokens/1", "tokens": []}'
        )
        for path in folder.iterdir():
            os.chown(path, 0, OURS)
            path.chmod(0o440)
        os.chown(folder, 0, OURS)
        folder.chmod(0o750)
        yield folder


def read_as(user: int, folder: Path) -> list[str]:
    """What each reader of secrets does with the folder's files, in a process that becomes that user
    after its imports: the code may lie where others cannot read it."""
    done = subprocess.run(
        [sys.executable, "-c", READERS, str(folder), str(user)],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_all_readers_take_what_root_gave_the_pod_s_group(mounted: Path) -> None:
    assert read_as(OURS, mounted) == ["read"] * 4


def test_no_reader_takes_what_others_may_read(mounted: Path) -> None:
    for path in mounted.iterdir():
        path.chmod(0o444)
    assert read_as(OURS, mounted) == ["refused"] * 4


def test_a_credential_may_show_the_mask_of_its_access_control_list(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    def refused(name: str, mode: int, environ: dict[str, str]) -> bool:
        return open_to_others(tmp_path / name, found(mode, OURS), user=OURS, environ=environ)

    assert not refused("token", 0o440, environ)
    assert refused("token", 0o444, environ)
    assert refused("token", 0o460, environ)
    assert refused("below/token", 0o440, environ)
    assert refused("token", 0o440, {})
    assert refused("token", 0o440, {"CREDENTIALS_DIRECTORY": ""})
