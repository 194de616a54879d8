from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.facades import CARD, make_model
from tests.fakes.revisions import make_revision
from wire.bundle import SpecialToken
from wire.catalog import ModelUnknownError
from wire.errors import ForbiddenError, HeadwaterError, UnauthorizedError
from wire.registry import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    BlobUnknownError,
    DigestInvalidError,
    ManifestUnknownError,
    digest_of,
    error_body,
    model_pack,
    ollama_image,
    pick_variant,
    split_tag,
    tags_of,
    wants_oci,
)

MODEL = make_model("chat", variants=("Q8_0", "Q4_K_M"))
OLLAMA = "application/vnd.ollama.image."


def layers_of(manifest: bytes) -> dict[str, Any]:
    return {layer["mediaType"]: layer for layer in json.loads(manifest)["layers"]}


def test_ollama_gets_the_weights_and_what_it_knows_to_use() -> None:
    image = ollama_image(MODEL.manifest, "Q4_K_M", CARD, "{{ .Prompt }}")
    layers = layers_of(image.manifest)
    assert set(layers) == {OLLAMA + kind for kind in ("model", "template", "params", "license")}
    weights = MODEL.files["chat-Q4_K_M.gguf"]
    assert layers[f"{OLLAMA}model"]["digest"] == digest_of(weights)
    assert layers[f"{OLLAMA}model"]["size"] == len(weights)
    assert image.blobs[layers[f"{OLLAMA}template"]["digest"]] == b"{{ .Prompt }}"
    assert image.media_type == json.loads(image.manifest)["mediaType"] == DOCKER_MANIFEST
    assert all(digest_of(data) == digest for digest, data in image.blobs.items())


def test_without_a_card_and_a_template_only_the_files_are_there() -> None:
    image = ollama_image(MODEL.manifest, "Q8_0", None, None)
    assert set(layers_of(image.manifest)) == {f"{OLLAMA}model", f"{OLLAMA}license"}
    assert len(image.blobs) == 1


def test_stops_are_the_ends_that_the_model_writes() -> None:
    card = msgspec.structs.replace(CARD, eot=SpecialToken("<|eot|>", 9), eos=None)
    layer = layers_of(ollama_image(MODEL.manifest, "Q8_0", card, None).manifest)
    params = layer[f"{OLLAMA}params"]["digest"]
    assert ollama_image(MODEL.manifest, "Q8_0", card, None).blobs[params] == b'{"stop":["<|eot|>"]}'


def test_ollama_is_offered_nothing_that_it_cannot_load() -> None:
    other = make_revision({"model.safetensors": [b"x" * 64]})
    with pytest.raises(ManifestUnknownError):
        ollama_image(other.manifest, "", None, None)
    (layer,) = layers_of(model_pack(other.manifest, "", None).manifest)
    assert layer == "application/vnd.cncf.model.weight.v1.safetensors"


def test_a_model_pack_has_every_file_of_its_variant() -> None:
    image = model_pack(MODEL.manifest, "Q4_K_M", CARD)
    body = json.loads(image.manifest)
    named = {la["annotations"]["org.opencontainers.image.title"]: la for la in body["layers"]}
    assert set(named) == set(MODEL.files) - {"chat-Q8_0.gguf"}
    assert named["chat-Q4_K_M.gguf"]["mediaType"] == "application/vnd.cncf.model.weight.v1.gguf"
    assert {la["digest"] for la in body["layers"]} == {
        digest_of(data) for name, data in MODEL.files.items() if name in named
    }
    config = json.loads(image.blobs[body["config"]["digest"]])
    assert config["modelfs"]["diffIds"] == [la["digest"] for la in body["layers"]]
    assert body["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"


def test_images_are_the_same_every_time() -> None:
    first, again = (ollama_image(MODEL.manifest, "Q8_0", CARD, "t") for _ in range(2))
    assert (first.digest, first.blobs) == (again.digest, again.blobs)
    assert first.digest == digest_of(first.manifest)


@pytest.mark.parametrize(
    ("accept", "oci"),
    [
        ([DOCKER_MANIFEST], False),
        ([], False),
        (["*/*"], False),
        ([OCI_MANIFEST], True),
        ([f"{DOCKER_MANIFEST}, {OCI_MANIFEST};q=0.9"], True),
        ([DOCKER_MANIFEST, OCI_MANIFEST], True),
    ],
)
def test_who_takes_oci_gets_it(accept: list[str], oci: bool) -> None:
    assert wants_oci(accept) is oci


def test_a_tag_is_read_in_every_way_it_can_be_meant() -> None:
    assert split_tag("latest") == [("latest", ""), ("stable", "latest")]
    assert split_tag("a-b-c") == [("a-b-c", ""), ("a", "b-c"), ("a-b", "c"), ("stable", "a-b-c")]
    assert split_tag("-x-") == [("-x-", ""), ("stable", "-x-")]


@given(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.sampled_from(["q8_0", "Q8_0", "Q4_k_m"]))
def test_channel_and_variant_in_any_case_are_among_the_readings(channel: str, text: str) -> None:
    assert (channel, text) in split_tag(f"{channel}-{text}")
    assert pick_variant(MODEL.manifest, text) == text.upper()


def test_the_first_variant_is_taken_where_none_is_named() -> None:
    assert pick_variant(MODEL.manifest, "") == "Q8_0"
    assert pick_variant(make_model().manifest, "") == ""
    assert pick_variant(MODEL.manifest, "Q2_K") is None


def test_tags_are_channels_and_their_variants() -> None:
    assert tags_of({"stable": ("Q8_0", "Q4_K_M"), "next": ("Q8_0",)}) == [
        "latest", "main", "next", "stable", "stable-Q4_K_M", "stable-Q8_0",
    ]  # fmt: skip
    assert tags_of({"next": ()}) == ["next"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnauthorizedError("x"), "UNAUTHORIZED"),
        (ForbiddenError("x"), "DENIED"),
        (ModelUnknownError("x"), "NAME_UNKNOWN"),
        (ManifestUnknownError("x"), "MANIFEST_UNKNOWN"),
        (BlobUnknownError("x"), "BLOB_UNKNOWN"),
        (DigestInvalidError("x"), "DIGEST_INVALID"),
    ],
)
def test_errors_have_the_specifications_codes(error: HeadwaterError, code: str) -> None:
    body, content_type = error_body(error)
    assert json.loads(body)["errors"][0]["code"] == code
    assert content_type == "application/json"
