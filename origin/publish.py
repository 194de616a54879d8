"""Publishes the files of a model, from the machine that holds the publisher's key.

:func:`publish` reads as the steps, in order. Nothing is visible before the last: objects first,
then the signed list of revisions, then the channel. Repeating a publish that was cut off sends only
what the origin does not have yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import TargetFile, Targets

from origin.admin_client import OriginAdmin
from origin.bundle import Bundle, ParityOracle, RenderOracle, build_bundle, file_entry
from origin.chunker import Progress, plan, scan
from origin.documents import read
from origin.errors import PublishError
from origin.fileset import FileSet, Inspected, check_announced, inspect
from origin.offer import LocalFile
from origin.offline import sign_revisions
from origin.sending import Content, send_missing
from wire.channel import revision_target
from wire.errors import ConflictError
from wire.gguf_types import GGUF
from wire.golden import GOLDEN_PATH, MAX_GOLDEN_BYTES, GoldenInvalidError
from wire.golden import decode as decode_golden
from wire.manifest import FileEntry, Kind, build, encode, revision_of
from wire.paths import channel_name, model_name
from wire.static_file import MODEL
from wire.trust import KIND_FIELD, PRIVATE_FIELD

__all__ = ["OriginAdmin", "Progress", "Published", "publish"]

GoldenMaker = Callable[[Mapping[str, Sequence[Path]]], bytes | None]
"""Asks every variant in an engine: where its parts lie → the bytes of the golden file
(``wire.golden``), or None where none is to be made."""
_SIGNINGS = 5
_DESCRIBED = (
    "general.architecture", "general.name", "general.version", "general.license",
)  # fmt: skip
_TOLD = 256
"""Characters of a value that the manifest repeats."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did. Sizes in bytes; ``tokenizer``: ``none`` where no edge reads the model."""

    model: str
    revision: str
    size: int
    chunks: int
    sent_chunks: int
    sent_bytes: int
    tokenizer: str
    files: int = 1
    variants: tuple[str, ...] = ()
    golden: bool = False
    """Whether the revision says what its model must answer (``wire.golden``)."""


def publish(
    files: Sequence[LocalFile],
    model: str,
    channel: str,
    origin: OriginAdmin,
    key: Signer,
    *,
    metadata: Mapping[str, str] | None = None,
    private: bool = False,
    oracle: ParityOracle | None = None,
    render: RenderOracle | None = None,
    golden: GoldenMaker | None = None,
    progress: Progress = lambda *_: None,
) -> Published:
    """Publish files as a new revision and point ``channel`` at it.

    Every file is read once to name its chunks, and what the origin lacks once more to send it.
    Memory is a few chunks, however large the files. The same files and metadata give the same
    revision. Where there is a GGUF model, the edge's two files are made from it, and files that
    stand at their places are left out.

    Args:
        metadata: what the manifest says beside what the model says of itself (its source).
        private: the revision needs a pull token.
        oracle: tokenizes like llama.cpp; checks the edge's tokenizer where an engine is there.
        render: the same engine's rendering of conversations.
        golden: asks every variant of a GGUF model what it answers; a golden file that is offered
            among ``files`` is taken instead.
        progress: told of the steps ``scan`` and ``send``.

    Raises:
        GGUFInvalidError, SafetensorsInvalidError, NameInvalidError, PublishError: it must not be
            published; says why.
        DigestMismatchError: a file is not the one that its source announced.
        UnauthorizedError, ForbiddenError: the token, or the key, is not the one.
        ConflictError: a file changed meanwhile, somebody else is publishing all the time, or the
            revision stands published with the other privacy.
        SourceUnavailableError: the origin broke off; repeat, and only the rest is sent.
    """
    model, channel = model_name(model), channel_name(channel)
    origin.status()  # a wrong address or token is told before gigabytes are read
    offered = inspect(files)
    bundle = _bundle(offered, oracle, render)
    entries = _scan(offered, progress)
    small = [*(bundle.files() if bundle is not None else ()), *_golden(offered, golden)]
    about = {**_describe(offered.model), **(metadata or {})}
    manifest = build(model, (*entries, *(entry for entry, _ in small)), about)
    contents: dict[str, Content] = {entry.path: text for entry, text in small}
    contents.update((found.local.path, found.local.file) for found in offered.files)
    sent = send_missing(manifest, contents, origin, progress)
    data = encode(manifest)
    revision = revision_of(data)
    origin.put_manifest(revision, data)
    sign_into_list(origin, key, (model, revision, len(data)), private=private)
    origin.roll(model, channel, revision)
    return Published(
        model=model,
        revision=revision,
        size=manifest.size,
        chunks=len(manifest.chunk_refs()),
        sent_chunks=len(sent),
        sent_bytes=sum(ref.size for ref in sent),
        tokenizer=bundle.card.tokenizer if bundle is not None else "none",
        files=len(manifest.files),
        variants=manifest.variants,
        golden=any(entry.path == GOLDEN_PATH for entry in manifest.files),
    )


def _bundle(
    offered: FileSet, oracle: ParityOracle | None, render: RenderOracle | None
) -> Bundle | None:
    if offered.model is None:
        return None
    return build_bundle(offered.model, oracle=oracle, render=render)


def _golden(offered: FileSet, golden: GoldenMaker | None) -> Iterator[tuple[FileEntry, bytes]]:
    """The golden file to be made; none where one was offered, which must be one then."""
    given = [found.local.file for found in offered.files if found.local.path == GOLDEN_PATH]
    if given:
        try:
            with given[0].open("rb") as stream:
                decode_golden(stream.read(MAX_GOLDEN_BYTES + 1))
        except OSError as error:
            raise PublishError(f"cannot read {given[0]}: {error.strerror}") from error
        except GoldenInvalidError as error:
            raise GoldenInvalidError(
                f"{error.message}; that name is for what a model answers: publish without the file"
            ) from error
    elif golden is not None and offered.models and (data := golden(offered.models)) is not None:
        yield file_entry(GOLDEN_PATH, "other", data), data


def _scan(offered: FileSet, progress: Progress) -> list[FileEntry]:
    """Every file, read once; ``progress`` is told of all of them together."""
    total = sum(found.size for found in offered.files)
    entries: list[FileEntry] = []
    before = 0
    for found in offered.files:

        def tell(step: str, done: int, _total: int, before: int = before) -> None:
            progress(step, before + done, total)

        entries.append(_scanned(found, tell))
        before += found.size
    return entries


def _scanned(found: Inspected, progress: Progress) -> FileEntry:
    local = found.local
    entry = scan(
        local.file,
        plan(found.layout, found.size),
        path=local.path,
        role=local.role,
        variant=local.variant,
        progress=progress,
    )
    check_announced(local, entry.sha256)
    return entry


def _describe(gguf: GGUF | None) -> dict[str, str]:
    """What the manifest says about the model, from the file's own ``general.*`` metadata."""
    if gguf is None:
        return {}
    found = {key: gguf.metadata.get(key) for key in _DESCRIBED}
    return {key: value[:_TOLD] for key, value in found.items() if isinstance(value, str)}


def sign_into_list(
    origin: OriginAdmin,
    key: Signer,
    revision: tuple[str, str, int],
    *,
    private: bool,
    kind: Kind = MODEL,
) -> None:
    """Add the revision to the signed list, unless it is there already. Somebody else may publish at
    the same time: the list is then read and signed again.

    Raises:
        ConflictError: it stands there with the other privacy, the name belongs to revisions of the
            other kind, or somebody else is publishing all the time.
    """
    target = revision_target(*revision[:2])
    for attempt in range(1, _SIGNINGS + 1):
        current = origin.signed_revisions()
        listed = read(current, Targets).signed.targets
        _check_kind(listed, revision[0], kind)
        known = listed.get(target)
        if known is not None:
            if bool(known.custom and known.custom.get(PRIVATE_FIELD)) != private:
                raise ConflictError(
                    f"revision {revision[1]} of {revision[0]} is published "
                    f"{'for everybody' if private else 'as private'}; remove it first"
                )
            return
        signed = sign_revisions(
            current, key, [revision], private=private, kind=kind, now=time.time()
        )
        try:
            origin.publish(signed)
        except ConflictError:
            if attempt == _SIGNINGS:
                raise
        else:
            return


def _check_kind(listed: Mapping[str, TargetFile], model: str, kind: Kind) -> None:
    """A name is of a model or of a static site, for good: who asks for one must not get the other
    after a roll."""
    for path, target in listed.items():
        if path.startswith(revision_target(model, "").removesuffix(".json")):
            known = (target.custom or {}).get(KIND_FIELD, MODEL)
            if known != kind:
                raise ConflictError(
                    f"the name {model} belongs to a {known}; publish this {kind} under another one"
                )
