"""``ollama pull`` and ``llama-server -hf`` as they ask, and oras, against an origin and an edge."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.facades import CARD, StockTiers, make_model, stock_tiers, weights_of
from tests.fakes.replays import LlamaCpp, Ollama, RefusedError, ask
from tests.fakes.stock_clients import Ran, client_folder, environment, run
from wire.catalog import commit_of
from wire.chunk import is_digest

PUBLIC = make_model("chat", variants=("Q8_0", "Q4_K_M"))
PRIVATE = make_model("secret", seed=1)
LAYER = "application/vnd.ollama.image."
ORAS = """
import sys, oras.client
client = oras.client.OrasClient(insecure=True)
for file in client.pull(target=sys.argv[1], outdir=sys.argv[2]):
    print(file)
"""


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockTiers]:
    with stock_tiers(tmp_path_factory.mktemp("tiers")) as tiers:
        tiers.publish(PUBLIC)
        tiers.publish(PRIVATE, private=True)
        yield tiers


@pytest.fixture(params=["origin", "edge"])
def endpoint(request: pytest.FixtureRequest, tiers: StockTiers) -> str:
    return tiers.origin_url if request.param == "origin" else tiers.edge_url


@pytest.mark.parametrize(
    ("name", "tag", "file"),
    [
        ("library/chat", "latest", "chat-Q8_0.gguf"),
        ("headwater/chat", "stable-q4_k_m", "chat-Q4_K_M.gguf"),
        ("headwater/chat", "Q4_K_M", "chat-Q4_K_M.gguf"),
        ("headwater/chat", f"{commit_of(PUBLIC.id)}-q8_0", "chat-Q8_0.gguf"),
    ],
)
def test_ollama_pulls_a_model(endpoint: str, name: str, tag: str, file: str) -> None:
    manifest, blobs = Ollama(endpoint, name).pull(tag)
    layers = {layer["mediaType"].removeprefix(LAYER): layer for layer in manifest["layers"]}
    assert set(layers) == {"model", "template", "params", "license"}
    assert blobs[layers["model"]["digest"]] == PUBLIC.files[file]
    assert blobs[layers["license"]["digest"]] == PUBLIC.files["LICENSE"]
    assert json.loads(blobs[layers["params"]["digest"]]) == {"stop": ["<|im_end|>"]}
    assert b"<|im_start|>user" in blobs[layers["template"]["digest"]]
    config = json.loads(blobs[manifest["config"]["digest"]])
    assert config["model_format"] == "gguf"
    assert config["model_family"] == CARD.architecture
    assert config["model_type"] == "1.2M"


def test_ollama_pulls_a_private_model_by_its_password(endpoint: str, tiers: StockTiers) -> None:
    client = Ollama(endpoint, "headwater/secret", password=tiers.token("sec*"))
    _, blobs = client.pull()
    assert weights_of(PRIVATE)[1] in blobs.values()
    assert client.challenges == []
    with pytest.raises(RefusedError) as refused:
        Ollama(endpoint, "headwater/secret").pull()
    assert refused.value.status == 401
    wrong = Ollama(endpoint, "headwater/secret", password=tiers.token("other"))
    with pytest.raises(RefusedError) as refused:
        wrong.pull()
    assert refused.value.status == 403
    assert refused.value.answer.json["errors"][0]["code"] == "DENIED"


def test_what_is_missing_looks_like_what_is_private(endpoint: str) -> None:
    for path in ("manifests/latest", f"blobs/sha256:{'a' * 64}", "tags/list"):
        private = ask("GET", f"{endpoint}/v2/headwater/secret/{path}")
        missing = ask("GET", f"{endpoint}/v2/headwater/absent/{path}")
        for answer in (private, missing):
            assert answer.status == 401
            assert answer.json["errors"][0]["code"] == "UNAUTHORIZED"
        assert private.body.replace(b"secret", b"absent") == missing.body
        assert set(private.headers) == set(missing.headers)


def test_the_address_of_a_private_blob_opens_that_blob_only(
    endpoint: str, tiers: StockTiers
) -> None:
    token = {"Authorization": f"Bearer {tiers.token('secret')}"}
    blobs = f"{endpoint}/v2/headwater/secret/blobs"
    digests = [f"sha256:{entry.sha256}" for entry in PRIVATE.manifest.files]
    sent = ask("GET", f"{blobs}/{digests[0]}", token)
    assert sent.status == 307
    assert sent.headers["location"].startswith("/v2/headwater/secret/blobs/")
    assert ask("GET", endpoint + sent.headers["location"]).body == weights_of(PRIVATE)[1]
    elsewhere = sent.headers["location"].replace(digests[0], digests[1])
    assert ask("GET", endpoint + elsewhere).status == 401
    assert ask("GET", endpoint + sent.headers["location"] + "0").status == 401
    assert ask("GET", f"{blobs}/{digests[0]}").status == 401
    assert "private" in sent.headers["cache-control"]


def test_a_plain_tag_that_is_not_there_is_unknown(endpoint: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Ollama(endpoint, "headwater/chat").pull("v9")
    assert refused.value.status == 404
    assert refused.value.answer.json["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def oras(endpoint: str, name: str, folder: Path, *, token: str = "") -> Ran:
    """``oras pull``, with a login of its own."""
    beside = client_folder("oras")
    host = urlsplit(endpoint).netloc
    if token:
        login = base64.b64encode(f"pull:{token}".encode()).decode()
        (folder / ".docker").mkdir()
        (folder / ".docker" / "config.json").write_text(
            json.dumps({"auths": {host: {"auth": login}}})
        )
    env = environment(folder, beside)
    return run(sys.executable, "-c", ORAS, f"{host}/{name}", str(folder / "out"), env=env)


def test_oras_pulls_the_model_pack_with_every_file_under_its_name(
    endpoint: str, tmp_path: Path
) -> None:
    ran = oras(endpoint, "headwater/chat:stable-Q4_K_M", tmp_path)
    assert ran.code == 0, ran.said
    got = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert got == {name: data for name, data in PUBLIC.files.items() if "Q8_0" not in name}


def test_oras_pulls_a_private_model_after_a_login(
    endpoint: str, tiers: StockTiers, tmp_path: Path
) -> None:
    refused = oras(endpoint, "headwater/secret:latest", tmp_path)
    assert refused.code != 0
    assert "401" in refused.said or "Unauthorized" in refused.said
    home = tmp_path / "home"
    home.mkdir()
    ran = oras(endpoint, "headwater/secret:latest", home, token=tiers.token("secret"))
    assert ran.code == 0, ran.said
    got = {path.name: path.read_bytes() for path in (home / "out").iterdir()}
    assert got == PRIVATE.files


def test_an_oci_client_finds_the_model_pack(endpoint: str) -> None:
    manifests = f"{endpoint}/v2/headwater/chat/manifests"
    oci = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    by_tag = ask("GET", f"{manifests}/stable", oci)
    assert by_tag.headers["content-type"] == oci["Accept"]
    layers = by_tag.json["layers"]
    weights = [la for la in layers if la["mediaType"].endswith("weight.v1.gguf")]
    assert [la["annotations"]["org.cncf.model.filepath"] for la in weights] == ["chat-Q8_0.gguf"]
    digest = by_tag.headers["docker-content-digest"]
    assert is_digest(digest.removeprefix("sha256:"))
    assert digest == f"sha256:{hashlib.sha256(by_tag.body).hexdigest()}"
    by_digest = ask("GET", f"{manifests}/{digest}")
    assert (by_digest.status, by_digest.body) == (200, by_tag.body)
    assert "immutable" in by_digest.headers["cache-control"]
    tags = ask("GET", f"{endpoint}/v2/headwater/chat/tags/list?n=2")
    assert tags.json == {"name": "headwater/chat", "tags": ["latest", "main"]}
    after = ask("GET", endpoint + tags.headers["link"].partition("<")[2].partition(">")[0])
    assert after.json["tags"] == ["stable", "stable-Q4_K_M"]


def test_llama_cpp_downloads_and_resumes(endpoint: str, tiers: StockTiers) -> None:
    client = LlamaCpp(endpoint, "headwater/chat")
    commit = client.commit()
    assert commit == commit_of(PUBLIC.id)
    listing = client.listing(commit)
    assert listing == {entry.path: entry.sha256 for entry in PUBLIC.manifest.files}
    data = client.download(commit, "chat-Q4_K_M.gguf", cut=100_001)
    assert data == PUBLIC.files["chat-Q4_K_M.gguf"]
    assert client.download("main", "chat-Q8_0.gguf", cut=1) == PUBLIC.files["chat-Q8_0.gguf"]


def test_llama_cpp_sends_our_pull_token(endpoint: str, tiers: StockTiers) -> None:
    with pytest.raises(RefusedError) as refused:
        LlamaCpp(endpoint, "headwater/secret").commit()
    assert refused.value.status == 401
    client = LlamaCpp(endpoint, "headwater/secret", token=tiers.token("*"))
    name, data = weights_of(PRIVATE)
    assert client.download(client.commit(), name, cut=7) == data
