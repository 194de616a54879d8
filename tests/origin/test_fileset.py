"""Files of one revision fit together, or are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from origin.errors import DigestMismatchError, PublishError
from origin.fileset import FileSet, check_announced, inspect
from origin.offer import LocalFile, role_of
from tests.fakes import raw_gguf
from tests.fakes.raw_safetensors import write_file
from tests.fakes.split_gguf import split_gguf, split_keys
from tests.fakes.tiny_gguf import CHATML, write_tiny_gguf
from wire.errors import GGUFInvalidError, NameInvalidError, SafetensorsInvalidError
from wire.gguf_types import GGUF


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def local(file: Path, path: str = "", variant: str = "") -> LocalFile:
    path = path or file.name
    return LocalFile(file=file, path=path, role=role_of(path), variant=variant)


def variants(found: FileSet) -> dict[str, str]:
    return {one.local.path: one.local.variant for one in found.files}


def roles(found: FileSet) -> dict[str, str]:
    return {one.local.path: one.local.role for one in found.files}


def refused(*files: LocalFile) -> str:
    with pytest.raises(PublishError) as error:
        inspect(files)
    return error.value.message


def test_one_model_has_no_variant(model: Path) -> None:
    found = inspect([local(model)])
    assert variants(found) == {"tiny.gguf": ""}
    assert found.model is not None
    assert found.model_file == local(model)


def test_variants_are_named_by_what_was_told_the_name_and_the_file(model: Path) -> None:
    found = inspect(
        [
            local(model, "a-q4_k_m.gguf"),
            local(model, "a.UD-Q2_K_XL.gguf"),
            local(model, "told.gguf", variant="special"),
            local(model, "plain.gguf"),
            local(model, "notes.txt"),
        ]
    )
    assert variants(found) == {
        "a-q4_k_m.gguf": "Q4_K_M",
        "a.UD-Q2_K_XL.gguf": "UD-Q2_K_XL",
        "told.gguf": "special",
        "plain.gguf": "F32",
        "notes.txt": "",
    }


def test_variants_hold_one_vocabulary_in_memory(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    found = inspect([local(model, "a-Q8_0.gguf"), local(copy, "a-Q4_0.gguf")])
    one, other = (part.layout for part in found.files)
    assert isinstance(one, GGUF)
    assert isinstance(other, GGUF)
    assert one.metadata == other.metadata
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"):
        assert one.metadata[key] is other.metadata[key]


def test_two_files_cannot_be_one_variant(model: Path) -> None:
    assert "both the variant Q8_0" in refused(
        local(model, "a-Q8_0.gguf"), local(model, "b-Q8_0.gguf")
    )
    assert "both the variant F32" in refused(local(model, "a.gguf"), local(model, "b.gguf"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"chat_template": CHATML + " "}, "tokenizer.chat_template"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre"),
        ({"context_length": 9}, "llama.context_length"),
        ({"metadata": {"tokenizer.ggml.add_bos_token": True}}, "tokenizer.ggml.add_bos_token"),
    ],
)
def test_variants_share_tokenizer_and_template(
    model: Path, tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    other = write_tiny_gguf(tmp_path / "other-Q8_0.gguf", **change)
    assert f"differ in {key}" in refused(local(model, "a-Q4_0.gguf"), local(other))


def test_a_projector_is_no_variant(model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "mmproj.gguf"
    clip.write_bytes(raw_gguf.header([raw_gguf.text_key("general.architecture", "clip")]))
    adapter = tmp_path / "lora.gguf"
    adapter.write_bytes(raw_gguf.header([raw_gguf.text_key("general.type", "adapter")]))
    assert "no weights" in refused(local(clip), local(adapter))
    found = inspect([local(model), local(clip), local(adapter)])
    assert roles(found) == {"tiny.gguf": "weights", "mmproj.gguf": "other", "lora.gguf": "other"}


# Parts


def test_parts_are_one_model_with_all_tensors(model: Path, tmp_path: Path) -> None:
    parts = split_gguf(model, tmp_path, 3)
    found = inspect([local(path) for path in reversed(parts)])
    whole = inspect([local(model)]).model
    assert found.model is not None
    assert whole is not None
    assert found.model.parameters == whole.parameters
    assert found.model_file == local(parts[0])
    assert set(variants(found).values()) == {""}
    both = inspect([*map(local, parts), local(model, "m-Q8_0.gguf")])
    assert {variants(both)[path.name] for path in parts} == {"F32"}


def test_a_missing_part_is_refused(model: Path, tmp_path: Path) -> None:
    parts = split_gguf(model, tmp_path, 3)
    assert "has 3 parts; offered are [1, 3]" in refused(local(parts[0]), local(parts[2]))


def test_parts_that_were_swapped_or_renamed_are_refused(model: Path, tmp_path: Path) -> None:
    parts = split_gguf(model, tmp_path, 2)
    names = [path.name for path in parts]
    assert "says it is part 2 of 2" in refused(local(parts[1], names[0]), local(parts[0], names[1]))
    assert "is a part of a split" in refused(local(parts[0], "whole.gguf"))


def test_parts_of_two_models_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    parts = split_gguf(model, tmp_path, 2)
    other = write_tiny_gguf(tmp_path / "other.gguf", n_layer=3)
    others = split_gguf(other, tmp_path / "one", 2)
    assert "tensors in all" in refused(local(parts[0]), local(others[1]))
    again = tmp_path / "one" / parts[1].name
    tensor = raw_gguf.tensor("token_embd.weight", (8,), 24)
    again.write_bytes(raw_gguf.header(split_keys(1, 2, 20), [tensor]) + bytes(32))
    assert "hold" in refused(local(parts[0]), local(again))


# safetensors


def test_safetensors_with_their_index(tmp_path: Path) -> None:
    one = write_file(tmp_path / "m-00001-of-00002.safetensors", {"a": ("I8", (4,))})
    two = write_file(tmp_path / "m-00002-of-00002.safetensors", {"b": ("I8", (4,))})
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": one.name, "b": two.name}}))
    found = inspect([local(path) for path in (one, two, index)])
    assert found.model is None
    assert roles(found)[one.name] == "weights"
    assert "00002-of-00002.safetensors" in refused(local(one), local(index))
    assert "is missing; m has 2 parts" in refused(local(two))
    index.write_text(json.dumps({"weight_map": {"a": two.name}}))
    assert "does not hold" in refused(*map(local, (one, two, index)))
    index.write_text(json.dumps({"weight_map": {"a": "../m.safetensors"}}))
    with pytest.raises(NameInvalidError):
        inspect([local(path) for path in (one, two, index)])
    index.write_text("{}")
    with pytest.raises(SafetensorsInvalidError):
        inspect([local(path) for path in (one, two, index)])


def test_beside_a_gguf_other_weights_are_not_for_the_worker(model: Path, tmp_path: Path) -> None:
    other = write_file(tmp_path / "m.safetensors", {"a": ("I8", (4,))})
    assert roles(inspect([local(model), local(other)]))["m.safetensors"] == "other"


def test_the_edges_own_files_are_made_not_taken(model: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.json", "config.json"):
        (tmp_path / name).write_text("{}")
    files = [local(tmp_path / name) for name in ("tokenizer.json", "model.json", "config.json")]
    assert set(roles(inspect([local(model), *files]))) == {"tiny.gguf", "config.json"}
    weights = write_file(tmp_path / "m.safetensors", {"a": ("I8", (4,))})
    assert "tokenizer.json" in roles(inspect([local(weights), *files]))


# What is refused


def test_nothing_to_publish_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "no weights" in refused()
    assert "no weights" in refused(local(tmp_path / "config.json"))


def test_a_path_stands_once_and_inside(model: Path) -> None:
    assert "offered twice" in refused(local(model), local(model))
    for path in ("../x.gguf", "/x.gguf", "a//b.gguf", "a%2fb.gguf"):
        with pytest.raises(NameInvalidError):
            inspect([local(model, path)])


def test_what_a_name_promises_is_looked_for(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(GGUFInvalidError, match=r"m\.gguf: not a GGUF"):
        inspect([local(file, "m.gguf")])
    with pytest.raises(SafetensorsInvalidError, match=r"m\.safetensors: "):
        inspect([local(file, "m.safetensors")])


def test_an_announced_digest_is_compared(model: Path) -> None:
    check_announced(local(model), "a" * 64)
    announced = LocalFile(file=model, path="m.gguf", sha256="b" * 64)
    check_announced(announced, "b" * 64)
    with pytest.raises(DigestMismatchError, match="announced b"):
        check_announced(announced, "a" * 64)
