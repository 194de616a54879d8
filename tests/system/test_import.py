"""``headwater publish`` from elsewhere: one Headwater imports from another through the real
huggingface_hub, as it would from huggingface.co."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.headwater import headwater
from tests.fakes.hub import COMMIT, FakeHub, fake_hub
from tests.fakes.origins import RunningOrigin, running_origin
from tests.fakes.split_gguf import split_gguf
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tls_server import Asked, ranged, redirect, tls_server
from wire.http_client import BlockingClient
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode
from wire.paths import FILES, manifest_path
from wire.pull_tokens import PullTokens


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningOrigin, ...]]:
    """One to import from, one to import to."""
    folder = tmp_path_factory.mktemp("origins")
    with running_origin(folder / "from") as one, running_origin(folder / "to") as other:
        yield one, other


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have it: two variants, one of them in parts, texts and a pickle."""
    folder = tmp_path_factory.mktemp("chat")
    whole = write_tiny_gguf(folder / "whole.gguf", n_layer=4)
    split_gguf(whole, folder, 2, stem="chat-F16")
    whole.rename(folder / "chat-Q8_0.gguf")
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return folder


def publish(
    origin: RunningOrigin, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> Any:
    """A publish that must succeed; its JSON."""
    given = ["publish", *arguments, *origin.place(), "--no-parity"]
    code, document, notes = headwater(*given, state_dir=folder, environ=environ)
    assert code == 0, notes
    return document


def get(origin: RunningOrigin, path: str, token: str | None = None) -> bytes:
    client = BlockingClient(origin.url, token=token)
    try:
        answer = client.get(path, limit_bytes=MAX_MANIFEST_BYTES)
        assert answer.status == 200, path
        return bytes(answer.body)
    finally:
        client.close()


def manifest_of(origin: RunningOrigin, revision: str, token: str | None = None) -> Manifest:
    return decode(get(origin, manifest_path(revision), token), revision)


def test_one_headwater_imports_from_another_byte_for_byte(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    source, target = origins
    first = publish(source, tmp_path, str(models), "--model=chat-small")
    assert first["variants"] == ["F16", "Q8_0"]
    environ = {"HF_ENDPOINT": source.url}
    where = "hf://headwater/chat-small"
    done = publish(target, tmp_path, where, environ=environ)
    one, other = manifest_of(source, first["revision"]), manifest_of(target, done["revision"])
    assert done["model"] == "chat-small"
    assert {entry.path for entry in one.files} == {
        "LICENSE", "chat-F16-00001-of-00002.gguf", "chat-F16-00002-of-00002.gguf",
        "chat-Q8_0.gguf", "config.json", "model.json", "tokenizer.json",
    }  # fmt: skip
    assert one.files == other.files
    for entry in other.files:
        content = get(target, f"{FILES}/{done['revision']}/{entry.path}")
        assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert other.metadata["source"] == where
    assert other.metadata["source.revision"] == done["source.revision"]
    assert list((tmp_path / "imports").iterdir()) == [], "the work folder was not cleared"
    again = publish(target, tmp_path, where, environ=environ)
    assert (again["revision"], again["sent_chunks"]) == (done["revision"], 0)


def test_a_named_part_brings_the_whole_variant_and_patterns_narrow(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    source, target = origins
    publish(source, tmp_path, str(models), "--model=chat-parts")
    environ = {"HF_ENDPOINT": source.url}
    named = "hf://headwater/chat-parts/chat-F16-00002-of-00002.gguf"
    done = publish(target, tmp_path, named, "--model=parts", environ=environ)
    found = manifest_of(target, done["revision"])
    assert [entry.path for entry in found.by_role("weights")] == [
        "chat-F16-00001-of-00002.gguf",
        "chat-F16-00002-of-00002.gguf",
    ]
    assert done["source.file"] == "chat-F16-00002-of-00002.gguf"
    narrow = ("hf://headwater/chat-parts", "--model=q8", "--include=*Q8_0*")
    done = publish(target, tmp_path, *narrow, environ=environ)
    weights = manifest_of(target, done["revision"]).by_role("weights")
    assert [entry.path for entry in weights] == ["chat-Q8_0.gguf"]


def test_a_private_model_is_imported_with_a_token_and_stays_private(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    source, target = origins
    _, token = PullTokens.open(source.home.config.pull_tokens_file).mint(["secret"])
    publish(source, tmp_path, str(models / "chat-Q8_0.gguf"), "--model=secret", "--private")
    where = ("publish", "hf://headwater/secret", "--private", "--no-parity", *target.place())
    environ = {"HF_ENDPOINT": source.url, "HF_TOKEN": "", "HF_TOKEN_PATH": ""}
    code, document, notes = headwater(*where, state_dir=tmp_path, environ=environ)
    assert code == 1
    assert document["error"]["code"] in {"not_found", "unauthorized"}
    (tmp_path / "hf-token").write_text(f"{token}\n")
    environ["HF_TOKEN_PATH"] = str(tmp_path / "hf-token")
    done = publish(target, tmp_path, *where[1:3], environ=environ)
    assert done["private"] is True
    assert token not in notes + str(done)
    client = BlockingClient(target.url)
    try:
        answer = client.get(manifest_path(done["revision"]), limit_bytes=MAX_MANIFEST_BYTES)
    finally:
        client.close()
    assert answer.status in {401, 403, 404}


def test_a_hub_that_sends_other_bytes_than_it_announced_publishes_nothing(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    true = (models / "chat-Q8_0.gguf").read_bytes()
    hub = FakeHub("org/chat", {"chat.gguf": true}, sends={"chat.gguf": true[:-1] + b"\0"})
    target = origins[1]
    arguments = ["publish", "hf://org/chat", "--model=spoilt", "--no-parity", *target.place()]
    with fake_hub(hub):
        environ = {"HF_ENDPOINT": hub.url}
        code, document, _ = headwater(*arguments, state_dir=tmp_path, environ=environ)
        assert code == 1
        assert document["error"]["code"] == "digest_mismatch"
        assert list((tmp_path / "imports").iterdir()) == [], "the wrong bytes were kept"
        hub.sends.clear()
        done = publish(target, tmp_path, *arguments[1:3], environ=environ)
    assert done["source.revision"] == COMMIT


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("https://127.0.0.1/model.gguf", "import_refused"),
        ("https://[::1]/model.gguf", "import_refused"),
        ("https://169.254.169.254/model.gguf", "import_refused"),
        ("https://user@example.org/model.gguf", "import_refused"),
        ("http://example.org/model.gguf", "import_refused"),
        ("https://example.org/model.bin", "publish_refused"),
        ("hf://headwater/../x", "name_invalid"),
        ("file:///etc/passwd", "import_refused"),
    ],
)
def test_a_source_that_must_not_be_followed_is_refused(
    origins: tuple[RunningOrigin, ...], tmp_path: Path, source: str, code: str
) -> None:
    given = ["publish", source, "--model=x", *origins[1].place()]
    status, document, _ = headwater(*given, state_dir=tmp_path)
    assert status != 0
    assert document["error"]["code"] == code


def test_a_file_is_imported_by_its_url(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    content = (models / "chat-Q8_0.gguf").read_bytes()

    def answer(asked: Asked) -> Iterator[bytes]:
        if asked.path == "/chat.gguf":
            yield redirect("/files/42?sig=secret")
        else:
            yield b"".join(ranged(content, asked, '"one"'))

    with tls_server(tmp_path, answer) as site:
        url = f"https://127.0.0.1:{site.port}/chat.gguf"
        given = (url, "--model=by-url", "--allow-private-network")
        environ = {"SSL_CERT_FILE": str(next(tmp_path.glob("*.pem")))}
        done = publish(origins[1], tmp_path, *given, environ=environ)
    found = manifest_of(origins[1], done["revision"])
    assert found.file("chat.gguf").sha256 == hashlib.sha256(content).hexdigest()
    assert found.metadata["source"] == url
    assert "secret" not in str(done)


def test_a_publish_of_a_hub_that_was_killed_goes_on(
    origins: tuple[RunningOrigin, ...], models: Path, tmp_path: Path
) -> None:
    """What an earlier run has left: a finished file, and the rest of one that was under way."""
    content = (models / "chat-Q8_0.gguf").read_bytes()
    hub = FakeHub("org/chat", {"chat.gguf": content, "config.json": b"{}"})
    hub.listing = hub.listed()
    hub.files.pop("config.json")
    target = origins[1]
    arguments = ["publish", "hf://org/chat", "--model=killed", "--no-parity", *target.place()]
    with fake_hub(hub):
        environ = {"HF_ENDPOINT": hub.url}
        code, _, _ = headwater(*arguments, state_dir=tmp_path, environ=environ)
        assert code == 1
        assert len(hub.fetched()) == 1
        rest = next((tmp_path / "imports").iterdir()) / ".cache" / "x.incomplete"
        rest.parent.mkdir(exist_ok=True)
        rest.write_bytes(b"rest")
        hub.files["config.json"] = b"{}"
        publish(target, tmp_path, *arguments[1:3], environ=environ)
        assert [path.rpartition("/")[2] for path in hub.fetched()] == ["chat.gguf", "config.json"]
    assert list((tmp_path / "imports").iterdir()) == []
