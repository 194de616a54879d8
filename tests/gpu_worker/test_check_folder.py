"""gpu_worker.check_folder: what of a folder of safetensors an engine may see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from gpu_worker.check import ModelFiles, check_model
from tests.fakes import raw_safetensors
from tests.fakes.revisions import make_revision
from wire.errors import HeadwaterError, NotFoundError, SafetensorsInvalidError
from wire.manifest import Manifest

CONFIG = json.dumps({"model_type": "llama"}).encode()
ONE = raw_safetensors.write({"a": ("F32", (2, 2))})
TWO = raw_safetensors.write({"b": ("F16", (4,))})
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def index(**where: str) -> bytes:
    return json.dumps({"weight_map": where}).encode()


GOOD = {
    "config.json": CONFIG,
    FIRST: ONE,
    SECOND: TWO,
    INDEX: index(a=FIRST, b=SECOND),
    "tokenizer.json": b"{}",
}


def lay(folder: Path, files: dict[str, bytes]) -> Manifest:
    """Files on disk, and the manifest that lists them."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest = make_revision({name: [data] for name, data in files.items()}).manifest
    entries = [
        structs.replace(entry, role="weights" if entry.path.endswith(".safetensors") else "other")
        for entry in manifest.files
    ]
    return structs.replace(manifest, files=tuple(entries))


def test_a_sound_folder_is_given_as_a_folder(tmp_path: Path) -> None:
    manifest = lay(tmp_path, GOOD)
    assert check_model(manifest, tmp_path) == ModelFiles(tmp_path, len(ONE) + len(TWO))


def test_a_folder_within_the_revision_is_found(tmp_path: Path) -> None:
    manifest = lay(tmp_path, {f"awq/{name}": data for name, data in GOOD.items()})
    assert check_model(manifest, tmp_path).path == tmp_path / "awq"


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({FIRST: b"\xff" * 100}, SafetensorsInvalidError, "safetensors: "),
        ({FIRST: ONE[:-1]}, SafetensorsInvalidError, "safetensors: "),
        ({INDEX: b"{"}, SafetensorsInvalidError, "malformed"),
        ({INDEX: index(a=SECOND)}, SafetensorsInvalidError, "does not hold"),
        ({INDEX: index(a="../../etc/passwd")}, SafetensorsInvalidError, "does not hold"),
        ({"config.json": b"["}, SafetensorsInvalidError, "malformed"),
        ({"config.json": b"[]"}, SafetensorsInvalidError, "malformed"),
        ({"config.json": b"[" * 100_000}, SafetensorsInvalidError, "malformed"),
        ({"modeling_x.py": b"print()"}, SafetensorsInvalidError, "could run code"),
        ({"pytorch_model.BIN": b"x"}, SafetensorsInvalidError, "could run code"),
    ],
)
def test_what_an_engine_must_not_see_is_refused(
    tmp_path: Path, changes: dict[str, bytes], kind: type[HeadwaterError], why: str
) -> None:
    manifest = lay(tmp_path, {**GOOD, **changes})
    with pytest.raises(kind, match=why):
        check_model(manifest, tmp_path)


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    files = {name: data for name, data in GOOD.items() if name != "config.json"}
    with pytest.raises(NotFoundError, match=r"config\.json"):
        check_model(lay(tmp_path, files), tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    manifest = lay(tmp_path, GOOD)
    (tmp_path / SECOND).unlink()
    with pytest.raises(SafetensorsInvalidError, match=f"cannot read {SECOND}"):
        check_model(manifest, tmp_path)


def test_a_config_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    manifest = lay(tmp_path, GOOD)
    entries = [
        structs.replace(entry, size=1 << 40) if entry.path == "config.json" else entry
        for entry in manifest.files
    ]
    with pytest.raises(SafetensorsInvalidError, match="at most"):
        check_model(structs.replace(manifest, files=tuple(entries)), tmp_path)
