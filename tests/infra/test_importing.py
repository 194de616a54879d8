"""Sources become files on this disk, and what was fetched is kept or removed as it should be."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.importing import ImportConfig, offered, requantized
from origin.errors import DigestMismatchError, ImportRefusedError, PublishError
from tests.fakes.hub import COMMIT, FakeHub, fake_hub
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tls_server import Asked, TlsServer, ranged, tls_server
from wire.errors import ConfigError, ConflictError, NameInvalidError

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def config(tmp_path: Path) -> ImportConfig:
    return ImportConfig(work_dir=tmp_path / "work")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(FakeHub("org/chat.x", {"a.gguf": CONTENT, "config.json": b"{}"})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    def answer(asked: Asked) -> Iterator[bytes]:
        yield b"".join(ranged(CONTENT, asked, '"one"'))

    with tls_server(tmp_path, answer) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(next(tmp_path.glob("*.pem"))))
        yield server


def kept(config: ImportConfig) -> list[str]:
    return [path.name for path in config.work_dir.rglob("*") if path.is_file()]


def test_local_files_are_offered_where_they_are(config: ImportConfig, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a.gguf", "b.gguf", "config.json"):
        (tmp_path / "models" / name).touch()
    with offered(str(tmp_path / "models"), config, include=["b*"]) as offer:
        assert [local.path for local in offer.files] == ["b.gguf"]
        assert (offer.metadata, offer.name) == ({}, "")
    assert (tmp_path / "models" / "b.gguf").exists()
    assert not config.work_dir.exists()


def test_patterns_are_for_folders(config: ImportConfig, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ConfigError), offered(str(tmp_path / "a.gguf"), config, include=["*"]):
        pass


def test_a_hubs_files_are_removed_once_they_are_published(
    config: ImportConfig, hub: FakeHub
) -> None:
    with offered("hf://org/chat.x", config) as offer:
        assert offer.name == "chat.x"
        assert offer.metadata == {"source": "hf://org/chat.x", "source.revision": COMMIT}
        assert [local.file.read_bytes() for local in offer.files] == [CONTENT, b"{}"]
        assert stat.S_IMODE(offer.files[0].file.parent.stat().st_mode) == 0o700
    assert kept(config) == []


def test_they_are_kept_for_the_next_attempt_where_it_failed(
    config: ImportConfig, hub: FakeHub
) -> None:
    with pytest.raises(ConflictError), offered("hf://org/chat.x", config):
        raise ConflictError("the origin broke off")
    assert "a.gguf" in kept(config)
    before = len(hub.fetched())
    with offered("hf://org/chat.x", config) as offer:
        assert offer.files[0].file.read_bytes() == CONTENT
    assert len(hub.fetched()) == before


def test_wrong_bytes_are_not_kept(config: ImportConfig, hub: FakeHub) -> None:
    with pytest.raises(DigestMismatchError), offered("hf://org/chat.x", config):
        raise DigestMismatchError("not those that were announced")
    assert kept(config) == []


def test_one_process_imports_a_source_at_a_time(config: ImportConfig, hub: FakeHub) -> None:
    with (
        offered("hf://org/chat.x", config),
        pytest.raises(ConflictError, match="another process"),
        offered("hf://org/chat.x", config),
    ):
        pass


def test_what_a_killed_process_left_half_is_swept(config: ImportConfig, hub: FakeHub) -> None:
    with pytest.raises(ConflictError), offered("hf://org/chat.x", config):
        raise ConflictError("killed")
    half = next(config.work_dir.iterdir()) / ".cache" / "half.incomplete"
    half.write_bytes(b"half")
    with offered("hf://org/chat.x", config):
        assert not half.exists()


def test_a_url_brings_one_file(site: TlsServer, tmp_path: Path) -> None:
    config = ImportConfig(work_dir=tmp_path / "work", allow_private_network=True)
    url = f"https://127.0.0.1:{site.port}/some/chat%20one.gguf?sig=secret"
    steps: list[tuple[str, int, int]] = []
    with offered(url, config, progress=lambda *step: steps.append(step)) as offer:
        assert [local.path for local in offer.files] == ["chat one.gguf"]
        assert offer.files[0].file.read_bytes() == CONTENT
        shown = f"https://127.0.0.1:{site.port}/some/chat%20one.gguf"
        assert offer.metadata == {"source": shown, "source.file": "chat one.gguf"}
    assert steps[-1] == ("fetch", len(CONTENT), len(CONTENT))
    assert kept(config) == []


def test_a_url_is_refused_before_it_is_asked(site: TlsServer, config: ImportConfig) -> None:
    for url in (f"https://127.0.0.1:{site.port}/a.gguf", "https://127.0.0.1/a.gguf", "ftp://x/a"):
        with pytest.raises(ImportRefusedError), offered(url, config):
            pass
    with pytest.raises(PublishError, match="is not taken"), offered("https://a.org/a.bin", config):
        pass
    with pytest.raises(NameInvalidError), offered("https://a.org/", config):
        pass
    with pytest.raises(ConfigError), offered("https://a.org/a.gguf", config, include=["*"]):
        pass
    assert site.asked == []


def test_a_folder_that_cannot_be_made_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = ImportConfig(work_dir=tmp_path / "file")
    with pytest.raises(PublishError, match="cannot work in"), offered("hf://org/chat.x", config):
        pass


# Quantizing


def test_variants_take_the_place_of_the_file(config: ImportConfig, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_tiny_gguf(tmp_path / "models" / "chat-f32.gguf")
    (tmp_path / "models" / "LICENSE").touch()
    with offered(str(tmp_path / "models"), config) as offer:
        with requantized(offer, ["Q8_0", "Q4_0"], config, measure=False) as (changed, report):
            assert {(local.path, local.variant) for local in changed.files} == {
                ("LICENSE", ""),
                ("chat-Q8_0.gguf", "Q8_0"),
                ("chat-Q4_0.gguf", "Q4_0"),
            }
            assert all(local.file.stat().st_size >= 0 for local in changed.files)
            assert [variant["variant"] for variant in report.as_dict()["variants"]] == [
                "Q8_0",
                "Q4_0",
            ]
        with requantized(offer, ["Q8_0"], config, keep_source=True, measure=False) as (both, _):
            assert "chat-f32.gguf" in {local.path for local in both.files}
    assert kept(config) == []


def test_wrong_bytes_are_not_quantized(config: ImportConfig, hub: FakeHub) -> None:
    hub.sends = {"a.gguf": CONTENT[::-1]}
    with (
        pytest.raises(DigestMismatchError),
        offered("hf://org/chat.x", config) as offer,
        requantized(offer, ["Q8_0"], config),
    ):
        pass
    assert kept(config) == []


def test_two_models_cannot_be_quantized_at_once(config: ImportConfig, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "models" / name).touch()
    with (
        offered(str(tmp_path / "models"), config) as offer,
        pytest.raises(ConfigError, match="there are 2"),
        requantized(offer, ["Q8_0"], config),
    ):
        pass
