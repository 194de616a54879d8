from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from gpu_worker.check import ModelFiles, check_model, read_golden
from tests.fakes import raw_gguf
from tests.fakes.revisions import Revision, make_revision
from wire.errors import GGUFInvalidError, NotFoundError
from wire.golden import GOLDEN_PATH, GoldenInvalidError, GoldenPrompt, GoldenToken, build, encode
from wire.manifest import Manifest

GOOD = raw_gguf.header([raw_gguf.text_key("general.architecture", "llama")])


def lay_out(folder: Path, revision: Revision) -> None:
    for name, data in revision.files.items():
        (folder / name).write_bytes(data)


def test_the_first_file_and_the_size_of_all_are_what_an_engine_needs(tmp_path: Path) -> None:
    names = [f"m-0000{n}-of-00003.gguf" for n in (3, 1, 2)]
    revision = make_revision({name: [GOOD] for name in names})
    lay_out(tmp_path, revision)
    found = check_model(revision.manifest, tmp_path)
    assert found == ModelFiles(tmp_path / "m-00001-of-00003.gguf", 3 * len(GOOD))


@pytest.mark.parametrize(
    "bad",
    [
        raw_gguf.header(n_tensors=2**63),
        raw_gguf.header(n_keys=2**63),
        raw_gguf.header(tensors=[raw_gguf.tensor("t", (2**20,))]),
        b"not a model",
    ],
    ids=["tensors without end", "keys without end", "past the end", "no GGUF"],
)
@pytest.mark.parametrize("position", [0, 1])
def test_no_hostile_file_of_a_revision_reaches_an_engine(
    tmp_path: Path, bad: bytes, position: int
) -> None:
    parts = [GOOD, GOOD]
    parts[position] = bad
    revision = make_revision({"a.gguf": [parts[0]], "b.gguf": [parts[1]]})
    lay_out(tmp_path, revision)
    with pytest.raises(GGUFInvalidError):
        check_model(revision.manifest, tmp_path)


def test_a_revision_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no weights"):
        check_model(make_revision({"a.json": [b"{}"]}, role="other").manifest, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(GGUFInvalidError, match=r"cannot read a\.gguf"):
        check_model(make_revision({"a.gguf": [GOOD]}).manifest, tmp_path)


def of_variants(files: dict[str, str]) -> Manifest:
    """A manifest of good files, each with its variant."""
    manifest = make_revision({path: [GOOD] for path in files}).manifest
    entries = tuple(replace(entry, variant=files[entry.path]) for entry in manifest.files)
    return replace(manifest, files=entries)


def test_only_the_files_of_the_variant_are_looked_at(tmp_path: Path) -> None:
    manifest = of_variants(
        {
            "a-Q8_0-00002-of-00002.gguf": "Q8_0",
            "a-Q8_0-00001-of-00002.gguf": "Q8_0",
            "a-Q4_0.gguf": "Q4_0",
            "adapter.gguf": "",
        }
    )
    for entry in manifest.of_variant("Q8_0"):
        (tmp_path / entry.path).write_bytes(GOOD)
    found = check_model(manifest, tmp_path, "Q8_0")
    assert found == ModelFiles(tmp_path / "a-Q8_0-00001-of-00002.gguf", 3 * len(GOOD), "Q8_0")
    with pytest.raises(GGUFInvalidError, match=r"cannot read a-Q4_0\.gguf"):
        check_model(manifest, tmp_path, "Q4_0")


def test_weights_of_all_variants_are_checked_but_not_loaded(tmp_path: Path) -> None:
    manifest = of_variants({"adapter.gguf": "", "m.gguf": "Q8_0"})
    (tmp_path / "m.gguf").write_bytes(GOOD)
    (tmp_path / "adapter.gguf").write_bytes(b"hostile")
    with pytest.raises(GGUFInvalidError):
        check_model(manifest, tmp_path, "Q8_0")
    (tmp_path / "adapter.gguf").write_bytes(GOOD)
    assert check_model(manifest, tmp_path, "Q8_0").path.name == "m.gguf"


def test_a_variant_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no variant 'Q4_0'; it has Q8_0"):
        check_model(of_variants({"m.gguf": "Q8_0"}), tmp_path, "Q4_0")
    with pytest.raises(NotFoundError, match="has no weights"):
        check_model(of_variants({"m.gguf": "Q8_0"}), tmp_path)


def with_golden(golden: bytes) -> Revision:
    return make_revision({"m.gguf": [GOOD], GOLDEN_PATH: [golden]})


def golden_of(*variants: str) -> bytes:
    answer = (GoldenToken(7, b"x", -0.5),)
    prompt = GoldenPrompt(ids=(1,), text="a")
    return encode(build((prompt,), dict.fromkeys(variants, (answer,))))


def test_what_the_model_must_answer_is_read_for_its_variant(tmp_path: Path) -> None:
    revision = with_golden(golden_of("", "Q8_0"))
    lay_out(tmp_path, revision)
    expected = read_golden(revision.manifest, tmp_path)
    assert expected is not None
    assert expected.answers == ((GoldenToken(7, b"x", -0.5),),)
    assert read_golden(revision.manifest, tmp_path, "Q8_0") == expected
    assert read_golden(revision.manifest, tmp_path, "Q4_0") is None
    assert read_golden(make_revision({"m.gguf": [GOOD]}).manifest, tmp_path) is None


def test_a_golden_file_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    revision = with_golden(golden_of(""))
    lay_out(tmp_path, revision)
    softer = golden_of("").replace(b'"max_nats":0.5', b'"max_nats":9.5')
    (tmp_path / GOLDEN_PATH).write_bytes(softer)
    with pytest.raises(GoldenInvalidError, match="not the file that the publisher signed"):
        read_golden(revision.manifest, tmp_path)
    (tmp_path / GOLDEN_PATH).unlink()
    with pytest.raises(GoldenInvalidError, match="cannot read"):
        read_golden(revision.manifest, tmp_path)


def test_a_signed_golden_file_that_is_none_is_refused(tmp_path: Path) -> None:
    revision = with_golden(b"{}")
    lay_out(tmp_path, revision)
    with pytest.raises(GoldenInvalidError, match="malformed"):
        read_golden(revision.manifest, tmp_path)
