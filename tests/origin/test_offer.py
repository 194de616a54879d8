"""What is taken of a file, a folder and a listing, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.errors import PublishError
from origin.offer import chosen, from_disk, kind_of, part_of, role_of, whole

PARTS = [f"m-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "path", ["a.gguf", "sub/A.GGUF", "model-00001-of-00002.safetensors", "x.safetensors"]
)
def test_weights_are_numbers_only(path: str) -> None:
    assert kind_of(path) == "weights"
    assert role_of(path) == "weights"


@pytest.mark.parametrize(
    "path",
    [
        "config.json", "tokenizer.model", "merges.txt", "README.md", "LICENSE", "LICENSE.txt",
        "NOTICE", "chat_template.jinja", "model.safetensors.index.json", "USE_POLICY.md",
    ],
)  # fmt: skip
def test_texts_go_with_them(path: str) -> None:
    assert kind_of(path) == "text"
    assert role_of(path) == "other"


@pytest.mark.parametrize(
    "path",
    [
        "pytorch_model.bin", "model.pt", "model.pth", "a.ckpt", "a.pkl", "a.h5", "a.onnx", "a.npz",
        "modeling_x.py", "lib.so", "run.sh", "setup", "a.gguf.exe", "LICENSE.py", "a.zip", ".json",
        "a.msgpack", "a.keras", "a.tflite", "a.html",
    ],
)  # fmt: skip
def test_what_could_run_is_not_taken(path: str) -> None:
    assert kind_of(path) == "refused"
    with pytest.raises(PublishError, match="is not taken"):
        whole(path, [path])
    with pytest.raises(PublishError, match="is not taken"):
        chosen([path, "a.gguf"], [path])


def test_everything_that_is_taken_is_chosen_and_the_rest_left() -> None:
    known = ["pytorch_model.bin", "b.safetensors", "config.json", "run.py", "LICENSE"]
    assert chosen(known) == ("LICENSE", "b.safetensors", "config.json")


def test_patterns_choose() -> None:
    known = ["x-Q4_K_M.gguf", "x-Q8_0.gguf", "sub/y-Q8_0.gguf", "config.json"]
    assert chosen(known, ["*Q8_0*"]) == ("sub/y-Q8_0.gguf", "x-Q8_0.gguf")
    assert chosen(known, ["sub/*", "config.json"]) == ("config.json", "sub/y-Q8_0.gguf")
    with pytest.raises(PublishError, match="no file fits 'z\\*'"):
        chosen(known, ["*Q8_0*", "z*"])
    with pytest.raises(PublishError, match="no weights"):
        chosen(known, ["config.json"])


def test_a_folder_of_pickles_says_so() -> None:
    with pytest.raises(PublishError, match=r"no weights.*pytorch_model\.bin is not taken"):
        chosen(["config.json", "pytorch_model.bin"])


def test_one_part_stands_for_all() -> None:
    assert whole(PARTS[1], [*PARTS, "other.gguf"]) == tuple(PARTS)
    with pytest.raises(PublishError, match=r"m-00003-of-00003\.gguf is missing; m has 3 parts"):
        whole(PARTS[0], PARTS[:2])
    with pytest.raises(PublishError, match="no file"):
        whole("other.gguf", PARTS)
    for name in ("m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf"):
        with pytest.raises(PublishError, match="is part"):
            whole(name, [name])


def test_part_names_are_read() -> None:
    part = part_of("sub/m-x-00002-of-00003.gguf")
    assert part is not None
    assert (part.stem, part.number, part.count) == ("sub/m-x", 2, 3)
    assert list(part.names())[2] == "sub/m-x-00003-of-00003.gguf"
    assert part_of("m-2-of-3.gguf") is None


def test_a_folder_is_taken_without_what_is_hidden_or_linked(tmp_path: Path) -> None:
    for path in ("m.gguf", "sub/config.json", ".git/x.json", "sub/.x.json", "run.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    offered = from_disk(tmp_path)
    assert [(local.path, local.role) for local in offered] == [
        ("m.gguf", "weights"),
        ("sub/config.json", "other"),
    ]
    assert all(local.file == tmp_path / local.path for local in offered)


def test_a_file_is_taken_alone_or_with_its_parts(tmp_path: Path) -> None:
    for name in (*PARTS, "other.gguf"):
        (tmp_path / name).touch()
    assert [local.path for local in from_disk(tmp_path / PARTS[1])] == PARTS
    assert [local.path for local in from_disk(tmp_path / "other.gguf")] == ["other.gguf"]
    assert [local.path for local in from_disk(tmp_path / "absent.gguf")] == ["absent.gguf"]
    (tmp_path / PARTS[0]).unlink()
    with pytest.raises(PublishError, match="is missing"):
        from_disk(tmp_path / PARTS[1])
