from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.flush import MARK, boot_id, flush, mark, may_be_torn


def test_this_machine_names_its_boot() -> None:
    assert boot_id() == boot_id() != ""


def test_a_machine_that_does_not_is_told_apart_from_none(tmp_path: Path) -> None:
    assert boot_id(tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("written", "now", "torn"), [("a", "a", False), ("a", "b", True), ("", "", True)]
)
def test_a_mark_of_another_boot_proves_nothing(
    tmp_path: Path, written: str, now: str, torn: bool
) -> None:
    mark(tmp_path, written)
    assert may_be_torn(tmp_path, now) is torn


def test_a_folder_without_a_mark_is_sound(tmp_path: Path) -> None:
    assert not may_be_torn(tmp_path, "a")


def test_the_mark_goes_when_everything_is_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "x"
    file.write_bytes(b"x")
    mark(tmp_path, "a")
    flush(tmp_path, [file])
    assert not (tmp_path / MARK).exists()


def test_a_file_that_cannot_be_flushed_keeps_the_mark(tmp_path: Path) -> None:
    mark(tmp_path, "a")
    with pytest.raises(FileNotFoundError):
        flush(tmp_path, [tmp_path / "gone"])
    assert (tmp_path / MARK).exists()
