"""A revision as an image of an OCI registry: as Ollama pulls it, and as ModelPack. Pure.

Both share the weights' blobs, which are the revision's own files under their SHA-256. The small
blobs beside them (configuration, template, parameters) are made here, the same bytes every time, so
whoever is asked for one by its digest can make it again. Manifests: OCI image specification 1.1;
Ollama's layer types; ModelPack's (CNCF model-spec).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from wire.bundle import ModelCard
from wire.catalog import DEFAULT_NAMES
from wire.errors import (
    ForbiddenError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    UnauthorizedError,
)
from wire.manifest import FileEntry, Manifest
from wire.paths import DEFAULT_CHANNEL

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OLLAMA_CONFIG = "application/vnd.docker.container.image.v1+json"
OLLAMA_LAYER = "application/vnd.ollama.image."
MODEL_PACK = "application/vnd.cncf.model."
FILE_NAME = "org.opencontainers.image.title"
FILE_PATH = "org.cncf.model.filepath"
MAX_TAGS = 10_000
_GGUF = ".gguf"
_WEIGHT_FORMATS = {_GGUF: "gguf", ".safetensors": "safetensors"}
_LICENSE = "license"
_encoder = msgspec.json.Encoder(order="sorted")


class ManifestUnknownError(NotFoundError):
    """The repository has no such tag or manifest."""

    code = "manifest_unknown"


class BlobUnknownError(NotFoundError):
    """The repository has no such blob."""

    code = "blob_unknown"


class DigestInvalidError(NameInvalidError):
    """A digest that is not ``sha256:`` and 64 lower-case hexadecimal digits."""

    code = "digest_invalid"


@dataclass(frozen=True)
class Image:
    """A manifest, and the small blobs that it names and that no file holds."""

    media_type: str
    manifest: bytes
    blobs: Mapping[str, bytes]
    """Digest → bytes."""

    @cached_property
    def digest(self) -> str:
        """The manifest's own digest."""
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    """The digest of some bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def ollama_image(
    manifest: Manifest, variant: str, card: ModelCard | None, template: str | None
) -> Image:
    """The image that ``ollama pull`` wants: the GGUF files and what Ollama knows to do with them.

    Args:
        variant: one of the manifest's, or empty where it has none.
        template: the chat template in Ollama's language, where it is known.

    Raises:
        ManifestUnknownError: the revision has no GGUF file.
    """
    files = manifest.of_variant(variant)
    weights = [e for e in files if e.role == "weights" and e.path.lower().endswith(_GGUF)]
    if not weights:
        raise ManifestUnknownError(f"this revision of {manifest.model} has no GGUF file")
    layers = [_layer(f"{OLLAMA_LAYER}model", entry) for entry in weights]
    blobs: dict[str, bytes] = {}
    if template:
        layers.append(_made(blobs, f"{OLLAMA_LAYER}template", template.encode()))
    if params := _ollama_params(card):
        layers.append(_made(blobs, f"{OLLAMA_LAYER}params", _encoder.encode(params)))
    licenses = (e for e in files if e.path.rpartition("/")[2].lower().startswith(_LICENSE))
    layers += [_layer(OLLAMA_LAYER + _LICENSE, entry) for entry in licenses]
    config = _ollama_config(card, [layer["digest"] for layer in layers])
    body = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _made(blobs, OLLAMA_CONFIG, _encoder.encode(config)),
        "layers": layers,
    }
    return Image(DOCKER_MANIFEST, _encoder.encode(body), blobs)


def model_pack(manifest: Manifest, variant: str, card: ModelCard | None) -> Image:
    """The image that OCI clients pull: every file of the variant, under its own name."""
    blobs: dict[str, bytes] = {}
    layers = [_pack_layer(entry) for entry in manifest.of_variant(variant)]
    config = _pack_config(manifest, card, [layer["digest"] for layer in layers])
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": f"{MODEL_PACK}manifest.v1+json",
        "config": _made(blobs, f"{MODEL_PACK}config.v1+json", _encoder.encode(config)),
        "layers": layers,
        "annotations": {FILE_NAME: manifest.model},
    }
    return Image(OCI_MANIFEST, _encoder.encode(body), blobs)


def wants_oci(accept: Iterable[str]) -> bool:
    """Whether a client takes an OCI manifest, by its ``Accept`` fields; Ollama does not."""
    return any(OCI_MANIFEST in field for field in accept)


def split_tag(tag: str) -> list[tuple[str, str]]:
    """How a tag can be read: (channel or commit, variant), the likeliest first.

    A plain tag names a channel, or else a variant of ``stable``; ``TAG-VARIANT`` names both.
    """
    readings = [(tag, "")]
    for index, character in enumerate(tag):
        if character == "-" and 0 < index < len(tag) - 1:
            readings.append((tag[:index], tag[index + 1 :]))
    return [*readings, (DEFAULT_CHANNEL, tag)]


def pick_variant(manifest: Manifest, wanted: str) -> str | None:
    """The variant of that name, in any case; the first where none is wanted; None: no such."""
    if not wanted:
        return manifest.variants[0] if manifest.variants else ""
    return next((v for v in manifest.variants if v.lower() == wanted.lower()), None)


def tags_of(channels: Mapping[str, Sequence[str]]) -> list[str]:
    """All tags, sorted.

    Args:
        channels: channel → variants of the revision that it points to.
    """
    tags = set(channels)
    if DEFAULT_CHANNEL in channels:
        tags.update(DEFAULT_NAMES)
    for channel, variants in channels.items():
        if len(variants) > 1:
            tags.update(f"{channel}-{variant}" for variant in variants)
    return sorted(tags)[:MAX_TAGS]


def error_body(error: HeadwaterError) -> tuple[bytes, str]:
    """An error as registries say it (OCI distribution specification 1.1, "Error Codes")."""
    codes: list[tuple[type[HeadwaterError], str]] = [
        (UnauthorizedError, "UNAUTHORIZED"),
        (ForbiddenError, "DENIED"),
        (ManifestUnknownError, "MANIFEST_UNKNOWN"),
        (BlobUnknownError, "BLOB_UNKNOWN"),
        (DigestInvalidError, "DIGEST_INVALID"),
        (NameInvalidError, "NAME_INVALID"),
        (NotFoundError, "NAME_UNKNOWN"),
    ]
    code = next((code for kind, code in codes if isinstance(error, kind)), error.code.upper())
    body = {"errors": [{"code": code, "message": error.message, "detail": error.code}]}
    return msgspec.json.encode(body), "application/json"


def _layer(media_type: str, entry: FileEntry) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{entry.sha256}", "size": entry.size}


def _made(blobs: dict[str, bytes], media_type: str, data: bytes) -> dict[str, Any]:
    """The layer of a blob that is made here; it is put into ``blobs``."""
    digest = digest_of(data)
    blobs[digest] = data
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _pack_layer(entry: FileEntry) -> dict[str, Any]:
    suffix = next((s for s in _WEIGHT_FORMATS if entry.path.lower().endswith(s)), "")
    if entry.role == "weights":
        kind = f"weight.v1.{_WEIGHT_FORMATS.get(suffix, 'raw')}"
    elif entry.role == "other":
        kind = "doc.v1.raw"
    else:
        kind = "weight.config.v1.raw"
    names = {FILE_NAME: entry.path, FILE_PATH: entry.path}
    return {**_layer(MODEL_PACK + kind, entry), "annotations": names}


def _ollama_config(card: ModelCard | None, digests: Sequence[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_format": "gguf",
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": list(digests)},
    }
    if card is not None:
        config |= {
            "model_family": card.architecture,
            "model_families": [card.architecture],
            "model_type": _short_count(card.parameters),
            "file_type": card.quantization,
        }
    return config


def _ollama_params(card: ModelCard | None) -> dict[str, Any]:
    if card is None:
        return {}
    ends = [token.text for token in (card.eot, card.eos) if token is not None and token.text]
    return {"stop": list(dict.fromkeys(ends))} if ends else {}


def _pack_config(
    manifest: Manifest, card: ModelCard | None, digests: Sequence[str]
) -> dict[str, Any]:
    config: dict[str, str] = {}
    if card is not None:
        config = {
            "architecture": card.architecture,
            "format": "gguf",
            "paramSize": _short_count(card.parameters).lower(),
            "quantization": card.quantization,
        }
    return {
        "descriptor": {"name": manifest.model},
        "config": config,
        "modelfs": {"type": "layers", "diffIds": list(digests)},
    }


def _short_count(count: int) -> str:
    """A number of parameters as people write it: ``7.2B``."""
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return str(count)
