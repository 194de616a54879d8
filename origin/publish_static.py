"""Publishes a folder as a static site: looked over, compressed, cut, signed and sent like a model.

:func:`publish_static` reads as the steps, in order; what holds for ``origin.publish`` holds here.
Each file is read once to be named and compressed, and what the origin lacks once more to be sent.
Compressed forms wait in a temporary folder, so memory is a few files of at most 8 MiB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from securesystemslib.signer import Signer

from origin.admin_client import OriginAdmin
from origin.bundle import file_entry
from origin.chunker import Progress, plan, scan
from origin.errors import PublishError
from origin.media_types import is_compressible
from origin.precompress import PrecompressConfig, compressed
from origin.publish import sign_into_list
from origin.sending import Content, send_missing
from origin.static_folder import SiteFile, SiteFolder, read_folder
from wire.errors import ConflictError, GoneError
from wire.manifest import FileEntry, Manifest, build, encode, revision_of
from wire.paths import channel_name, model_name
from wire.static_file import STATIC, SUFFIXES


@dataclass(frozen=True, slots=True)
class PublishedSite:
    """What a publish did. Sizes in bytes."""

    model: str
    revision: str
    files: int
    """Addresses; compressed forms not counted."""
    size: int
    compressed_files: int
    compressed_bytes: int
    """Of all compressed forms."""
    immutable: int
    """Files whose names change with their content."""
    sent_chunks: int
    sent_bytes: int
    hidden: tuple[str, ...] = ()
    """Left out because their names begin with a dot."""
    uncompressed: tuple[str, ...] = ()
    """Forms that were not made because the folder has files at their places."""


def publish_static(
    folder: Path,
    model: str,
    channel: str,
    origin: OriginAdmin,
    key: Signer,
    *,
    private: bool = False,
    immutable: Sequence[str] = (),
    config: PrecompressConfig | None = None,
    progress: Progress = lambda *_: None,
) -> PublishedSite:
    """Publish a folder as a new revision of a static site and point ``channel`` at it.

    The same files give the same revision.

    Args:
        private: the revision needs a pull token.
        immutable: as for ``origin.static_folder.read_folder``.
        progress: told of the steps ``scan`` and ``send``.

    Raises:
        NameInvalidError, PublishError: it must not be published; says why.
        UnauthorizedError, ForbiddenError: the token, or the key, is not the one.
        ConflictError: a file changed meanwhile; the name belongs to a model; a file whose name
            changes with its content has other content under the same name; or as
            ``origin.publish.sign_into_list``.
        SourceUnavailableError: the origin broke off; repeat, and only the rest is sent.
    """
    model, channel = model_name(model), channel_name(channel)
    status = origin.status()  # a wrong address or token is told before anything is read
    site = read_folder(folder, immutable=immutable)
    with tempfile.TemporaryDirectory(prefix="headwater-site-") as temporary:
        making = _Making(site, Path(temporary), config or PrecompressConfig(), progress)
        manifest = build(model, tuple(making.entries()), {}, kind=STATIC)
        _check_promises(manifest, _current(origin, status, model, channel))
        sent = send_missing(manifest, making.contents, origin, progress)
    data = encode(manifest)
    revision = revision_of(data)
    origin.put_manifest(revision, data)
    sign_into_list(origin, key, (model, revision, len(data)), private=private, kind=STATIC)
    origin.roll(model, channel, revision)
    forms = [entry for entry in manifest.files if entry.static and entry.static.coding]
    return PublishedSite(
        model=model,
        revision=revision,
        files=len(site.files),
        size=sum(one.size for one in site.files),
        compressed_files=len(forms),
        compressed_bytes=sum(form.size for form in forms),
        immutable=sum(one.static.immutable for one in site.files),
        sent_chunks=len(sent),
        sent_bytes=sum(ref.size for ref in sent),
        hidden=site.hidden,
        uncompressed=tuple(making.uncompressed),
    )


class _Making:
    """The entries of a site, and where what they name can be read until it is sent."""

    def __init__(
        self, site: SiteFolder, temporary: Path, config: PrecompressConfig, progress: Progress
    ) -> None:
        self._site = site
        self._temporary = temporary
        self._config = config
        self._progress = progress
        self._taken = {one.path for one in site.files}
        self.contents: dict[str, Content] = {one.path: one.file for one in site.files}
        self.uncompressed: list[str] = []

    def entries(self) -> Iterator[FileEntry]:
        done, total = 0, sum(one.size for one in self._site.files)
        for one in self._site.files:
            if is_compressible(one.static.type) and one.size <= self._config.max_bytes:
                yield from self._with_forms(one)
            else:
                entry = scan(one.file, plan(None, one.size), path=one.path, role="other")
                yield msgspec.structs.replace(entry, static=one.static)
            done += one.size
            self._progress("scan", done, total)

    def _with_forms(self, one: SiteFile) -> Iterator[FileEntry]:
        """The file, and its compressed forms, from one and the same reading."""
        try:
            with one.file.open("rb") as stream:
                data = stream.read(one.size + 1)
        except OSError as error:
            raise PublishError(f"cannot read {one.file}: {error.strerror}") from error
        if len(data) != one.size:
            raise ConflictError(f"{one.file} changed while it was published; publish it again")
        yield msgspec.structs.replace(file_entry(one.path, "other", data), static=one.static)
        for coding, form in compressed(data, self._config):
            path = one.path + SUFFIXES[coding]
            if path in self._taken:
                self.uncompressed.append(path)
                continue
            place = self._temporary / str(len(self.contents))
            place.write_bytes(form)
            self.contents[path] = place
            static = msgspec.structs.replace(one.static, coding=coding)
            yield msgspec.structs.replace(file_entry(path, "other", form), static=static)


def _current(
    origin: OriginAdmin, status: Mapping[str, object], model: str, channel: str
) -> Manifest | None:
    """What the channel points at; None where it is nothing, or was taken down."""
    channels = status.get("channels")
    for pointer in channels if isinstance(channels, list) else ():
        if (pointer["model"], pointer["channel"]) == (model, channel):
            try:
                return origin.manifest(pointer["revision"])
            except GoneError:
                return None
    return None


def _check_promises(manifest: Manifest, before: Manifest | None) -> None:
    """Browsers were told never to ask again for a file whose name changes with its content: one
    that has other content under its old name would never reach them."""
    known = {entry.path: entry for entry in before.files} if before is not None else {}
    for entry in manifest.files:
        old = known.get(entry.path)
        if old is None or old.static is None or old.static.coding:
            continue
        if old.static.immutable and old.sha256 != entry.sha256:
            raise ConflictError(
                f"{entry.path} was published as a file that never changes, and browsers keep it; "
                "give the new content another name"
            )
