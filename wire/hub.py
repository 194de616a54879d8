"""The Hugging Face Hub's JSON about a revision, as its clients read it. Pure.

Read in huggingface_hub 1.33 and 2.4 (``hf_api.py``, ``file_download.py``) and in llama.cpp's
``common/``. Every file is shown as stored by Git LFS, because then clients name it by its SHA-256.
``xetHash`` is left out: with it clients would ask Xet and not us.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wire.catalog import DEFAULT_NAMES, ModelUnknownError, RevisionUnknownError, commit_of
from wire.errors import (
    ForbiddenError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    UnauthorizedError,
)
from wire.manifest import FileEntry, Manifest
from wire.paths import DEFAULT_CHANNEL, file_path

MAIN = DEFAULT_NAMES[0]
Action = Literal["", "revision", "tree", "refs"]
_ACTIONS: dict[str, Action] = {"revision": "revision", "tree": "tree", "refs": "refs"}


class EntryUnknownError(NotFoundError):
    """The revision has no such file or folder."""

    code = "entry_unknown"


@dataclass(frozen=True, slots=True)
class ApiCall:
    """What a path below ``/api/models/`` asks for."""

    repository: str
    action: Action
    revision: str = MAIN
    path: str = ""
    """Of a folder whose listing is asked for."""


def read_call(rest: str, namespaces: Sequence[str]) -> ApiCall:
    """Read the path after ``/api/models/``. A model may stand with a namespace or without.

    Raises:
        NotFoundError: no call has this form.
        NameInvalidError: a segment that can name nothing.
    """
    parts = rest.split("/")
    if {"", ".", ".."} & set(parts):
        raise NameInvalidError("a path of the Hub's API has plain segments and does not climb")
    with_namespace = len(parts) > 1 and (parts[0] in namespaces or parts[1] not in _ACTIONS)
    count = 2 if with_namespace else 1
    repository, tail = "/".join(parts[:count]), parts[count:]
    action = _ACTIONS.get(tail[0]) if tail else ""
    if action == "" or (action == "refs" and len(tail) == 1):
        return ApiCall(repository, action)
    if action == "revision" and len(tail) > 1:
        return ApiCall(repository, action, "/".join(tail[1:]))
    if action == "tree" and len(tail) > 1:
        return ApiCall(repository, action, tail[1], "/".join(tail[2:]))
    raise NotFoundError("no such path of the Hub's API")


def model_info(
    repository: str, revision: str, manifest: Manifest, *, private: bool, blobs: bool
) -> dict[str, Any]:
    """A model and its files.

    Args:
        blobs: with their sizes and digests.
    """
    return {
        "_id": revision[:24],
        "id": repository,
        "modelId": repository,
        "sha": commit_of(revision),
        "private": private,
        "gated": False,
        "disabled": False,
        "tags": sorted({entry.path.rpartition(".")[2] for entry in manifest.by_role("weights")}),
        "siblings": [_sibling(entry, blobs=blobs) for entry in manifest.files],
    }


def tree(manifest: Manifest, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries of a folder, sorted by path; ``recursive``: and of those below it.

    Raises:
        EntryUnknownError: no such folder.
        NameInvalidError: it can name none.
    """
    below = f"{file_path(folder)}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for entry in manifest.files:
        if not entry.path.startswith(below):
            continue
        parts = entry.path[len(below) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            path = below + "/".join(parts[:depth])
            entries.setdefault(path, _folder(path))
        if recursive or len(parts) == 1:
            entries[entry.path] = _file(entry)
    if below and not entries:
        raise EntryUnknownError(f"no folder {folder!r} in this revision")
    return [entries[path] for path in sorted(entries)]


def page(
    entries: Sequence[dict[str, Any]], start: int, limit: int
) -> tuple[Sequence[dict[str, Any]], int | None]:
    """The entries from ``start``, at most ``limit``; and where the next page starts, if there is
    one."""
    end = start + limit
    return entries[start:end], end if end < len(entries) else None


def references(channels: Mapping[str, str]) -> dict[str, Any]:
    """The channels as branches; ``main`` is ``stable``.

    Args:
        channels: channel → revision.
    """
    named = dict(channels)
    if DEFAULT_CHANNEL in named:
        named = {MAIN: named[DEFAULT_CHANNEL], **named}
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(revision)}
        for name, revision in named.items()
    ]
    return {"branches": branches, "converts": [], "tags": [], "pullRequests": []}


def who(name: str) -> dict[str, Any]:
    """What ``whoami-v2`` says of the holder of a token."""
    token = {"displayName": name, "role": "read"}
    auth = {"type": "access_token", "accessToken": token}
    return {"type": "user", "id": name, "name": name, "fullname": name, "orgs": [], "auth": auth}


def error_headers(error: HeadwaterError, *, refused: bool) -> dict[str, str]:
    """What tells the Hub's clients which error it is.

    Args:
        refused: the reader showed a credential that opens nothing.
    """
    message = error.message
    code = ""
    if isinstance(error, UnauthorizedError) and refused:
        message = "Invalid credentials in Authorization header"
    elif isinstance(error, UnauthorizedError | ModelUnknownError):
        code = "RepoNotFound"
    elif isinstance(error, ForbiddenError):
        code = "GatedRepo"
    elif isinstance(error, RevisionUnknownError):
        code = "RevisionNotFound"
    elif isinstance(error, GoneError):
        message = "Access to this resource is disabled."
    elif isinstance(error, NotFoundError):
        code = "EntryNotFound"
    headers = {"X-Error-Message": "".join(c for c in message if " " <= c <= "~")[:300]}
    return {"X-Error-Code": code, **headers} if code else headers


def _pointer(entry: FileEntry) -> bytes:
    """The file that Git would hold in the place of this one (the specification of Git LFS)."""
    lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{entry.sha256}")
    return "\n".join((*lines, f"size {entry.size}", "")).encode()


def _git_id(kind: str, data: bytes) -> str:
    """The name that Git gives an object."""
    whole = f"{kind} {len(data)}\0".encode() + data
    return hashlib.sha1(whole, usedforsecurity=False).hexdigest()


def _file(entry: FileEntry) -> dict[str, Any]:
    pointer = _pointer(entry)
    return {
        "type": "file",
        "path": entry.path,
        "size": entry.size,
        "oid": _git_id("blob", pointer),
        "lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": len(pointer)},
    }


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": _git_id("tree", path.encode())}


def _sibling(entry: FileEntry, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": entry.path}
    pointer = _pointer(entry)
    lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(pointer)}
    return {
        "rfilename": entry.path,
        "size": entry.size,
        "blobId": _git_id("blob", pointer),
        "lfs": lfs,
    }
