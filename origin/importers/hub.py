"""Imports from a model hub (huggingface.co, or another Headwater) through huggingface_hub.

The hub is configured by the operator (``HF_ENDPOINT``) and is still not believed: what it lists is
checked and bounded before a byte is fetched, a file that sends more than was listed is cut off, and
the SHA-256 that it announces is compared when the file is hashed for publishing.

Finished files are kept in the work folder, so an import that broke off goes on with the next one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from origin.errors import ImportRefusedError
from origin.offer import LocalFile, chosen, role_of, whole
from wire.chunk import is_digest
from wire.errors import (
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    SourceUnavailableError,
    TooLargeError,
    UnauthorizedError,
)
from wire.manifest import MAX_FILES
from wire.paths import file_path

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
DEFAULT_ENDPOINT = "https://huggingface.co"
Progress = Callable[[str, int, int], None]

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MAX_LISTED = 4 * MAX_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLimits:
    """How much is taken from a hub, in bytes."""

    file_bytes: int = 200 * 10**9
    total_bytes: int = 2 * 10**12
    text_bytes: int = 256 * 1024 * 1024
    """A file that is no weights."""


@dataclass(frozen=True, slots=True)
class HubReference:
    """``hf://org/name[@revision][/file]``."""

    repository: str
    revision: str = "main"
    file: str = ""

    @property
    def name(self) -> str:
        """The repository without its owner."""
        return self.repository.partition("/")[2]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub lists it. ``size`` in bytes; ``sha256`` empty where none is announced."""

    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """Files that were brought here, and where from, for the manifest."""

    files: tuple[LocalFile, ...]
    metadata: dict[str, str]


def parse_reference(text: str) -> HubReference:
    """Read ``hf://org/name[@revision][/file]``.

    Raises:
        NameInvalidError: it is not of this form.
    """
    parts = text.removeprefix(SCHEME).split("/", 2)
    if not text.startswith(SCHEME) or len(parts) < 2:
        raise NameInvalidError("a model on a hub is named hf://ORG/NAME[@REVISION][/FILE]")
    name, at, revision = parts[1].partition("@")
    repository = f"{parts[0]}/{name}"
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise NameInvalidError(f"{repository[:200]!r} is no name on a hub")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise NameInvalidError(f"{revision[:200]!r} is no revision: a branch, tag or commit")
    file = file_path(parts[2]) if len(parts) == 3 and parts[2] else ""
    return HubReference(repository, revision or "main", file)


def select(
    listed: Iterable[HubFile],
    reference: HubReference,
    include: Sequence[str] = (),
    limits: HubLimits | None = None,
) -> tuple[HubFile, ...]:
    """The files to fetch: the one that was named, with all its parts, or else as for a folder.

    Raises:
        PublishError, NameInvalidError: as ``origin.offer.chosen`` and ``whole``, or a path that
            cannot stand in a revision.
        TooLargeError: more bytes than the limits allow.
    """
    limits = limits or HubLimits()
    known = {file.path: file for file in listed if not _hidden(file.path)}
    wanted = whole(reference.file, known) if reference.file else chosen(known, include)
    files = tuple(known[file_path(path)] for path in wanted)
    for file in files:
        limit = limits.file_bytes if role_of(file.path) == "weights" else limits.text_bytes
        if not 0 <= file.size <= limit:
            raise TooLargeError(f"{file.path} has {file.size} B; the limit is {limit} B")
    total = sum(file.size for file in files)
    if total > limits.total_bytes:
        raise TooLargeError(f"the files have {total} B; the limit is {limits.total_bytes} B")
    return files


def hub_token() -> str | None:
    """The token of the environment: ``HF_TOKEN``, else the file that ``HF_TOKEN_PATH`` names."""
    token = os.environ.get("HF_TOKEN", "").strip()
    path = os.environ.get("HF_TOKEN_PATH", "")
    if not token and path:
        try:
            token = Path(path).read_text().strip()
        except OSError as error:
            raise UnauthorizedError(f"cannot read HF_TOKEN_PATH: {error.strerror}") from error
    return token or None


class Hub:
    """A hub, asked through huggingface_hub. Blocking.

    Args:
        endpoint: ``https://host``; that of ``HF_ENDPOINT`` by default.
        token: sent to that hub only; never logged.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        limits: HubLimits | None = None,
    ) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._token = token
        self._limits = limits or HubLimits()

    def commit(self, reference: HubReference) -> tuple[str, str]:
        """The commit that the reference means now, and the licence, if the hub names one.

        Raises:
            NotFoundError, UnauthorizedError, SourceUnavailableError: as the hub answers.
            ImportRefusedError: it names no commit.
        """
        with _Translated(self.endpoint):
            info = self._api().model_info(reference.repository, revision=reference.revision)
            commit, tags = info.sha, [str(tag) for tag in info.tags or ()]
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise ImportRefusedError(f"{self.endpoint} names no commit of {reference.repository}")
        licences = (tag.removeprefix("license:") for tag in tags if tag.startswith("license:"))
        licence = next((name for name in licences if _LICENCE.fullmatch(name)), "")
        return commit, licence

    def listing(self, reference: HubReference, commit: str) -> tuple[HubFile, ...]:
        """All files of a commit, as the hub lists them.

        Raises:
            ImportRefusedError: too many, or malformed.
        """
        with _Translated(self.endpoint):
            tree = self._api().list_repo_tree(reference.repository, recursive=True, revision=commit)
            entries = list(islice(tree, _MAX_LISTED + 1))
        if len(entries) > _MAX_LISTED:
            raise ImportRefusedError(f"{reference.repository} has more than {_MAX_LISTED} files")
        return tuple(_listed(entry) for entry in entries if hasattr(entry, "blob_id"))

    def fetch(
        self,
        reference: HubReference,
        folder: Path,
        *,
        include: Sequence[str] = (),
        progress: Progress = lambda *_: None,
    ) -> Imported:
        """Bring the files to ``folder``; those that are there whole are not fetched again.

        Args:
            include: as for :func:`select`.
            progress: told of the step ``fetch``.

        Raises:
            HeadwaterError: as :meth:`commit`, :meth:`listing` and :func:`select`.
        """
        commit, licence = self.commit(reference)
        files = select(self.listing(reference, commit), reference, include, self._limits)
        count = _Count(sum(file.size for file in files), progress)
        offered = [self._file(reference, commit, file, folder, count) for file in files]
        metadata = {
            "source": f"{SCHEME}{reference.repository}",
            "source.revision": commit,
            **({"source.file": reference.file} if reference.file else {}),
            **({"source.license": licence} if licence else {}),
        }
        return Imported(tuple(offered), metadata)

    def _file(
        self, reference: HubReference, commit: str, file: HubFile, folder: Path, count: _Count
    ) -> LocalFile:
        from huggingface_hub import hf_hub_download

        place = folder / file.path
        if not (place.is_file() and not place.is_symlink() and place.stat().st_size == file.size):
            bar = count.bar(file)
            with _Translated(self.endpoint):
                hf_hub_download(
                    reference.repository,
                    file.path,
                    revision=commit,
                    local_dir=folder,
                    endpoint=self.endpoint,
                    token=self._token or False,
                    force_download=place.exists(),
                    tqdm_class=bar,
                )
            if place.stat().st_size != file.size:
                raise ImportRefusedError(
                    f"{file.path} has {place.stat().st_size} B; {self.endpoint} listed {file.size}"
                )
        count.finished(file)
        return LocalFile(file=place, path=file.path, role=role_of(file.path), sha256=file.sha256)

    def _api(self) -> HfApi:
        # Read by the library when it is first imported. Its warnings repeat URLs, also signed.
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self._token or False)


class _Count:
    """Bytes of all files together."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._progress = progress
        self._whole = 0

    def finished(self, file: HubFile) -> None:
        self._whole += file.size
        self._progress("fetch", self._whole, self._total)

    def told(self, file: HubFile, size: int) -> None:
        """``size`` bytes of a file are here. Called before they are written.

        Raises:
            TooLargeError: more than were listed.
        """
        if size > file.size:
            raise TooLargeError(f"{file.path} sends more than the {file.size} B that were listed")
        self._progress("fetch", self._whole + size, self._total)

    def bar(self, file: HubFile) -> Any:
        """What the library takes for a progress bar of this file."""
        count = self

        class Bar:
            def __init__(self, *_: object, initial: int = 0, **_more: object) -> None:
                self._size = initial

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: object) -> None:
                """Nothing to close."""

            def update(self, count_: float | None = 1) -> None:
                self._size += int(count_ or 0)
                count.told(file, self._size)

        return Bar


class _Translated:
    """What the library raises, in our own terms. Its messages are not repeated: they may hold
    signed URLs."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, HeadwaterError):
            raise _translated(error, self._endpoint) from error


def _translated(error: Exception, endpoint: str) -> HeadwaterError:
    from huggingface_hub import errors

    known: dict[type[Exception], HeadwaterError] = {
        errors.GatedRepoError: UnauthorizedError(
            f"{endpoint} gives this model only to those it has let in"
        ),
        errors.RepositoryNotFoundError: NotFoundError(
            f"{endpoint} has no such model, or HF_TOKEN does not open it"
        ),
        errors.RevisionNotFoundError: NotFoundError(f"{endpoint} has no such revision"),
        errors.EntryNotFoundError: NotFoundError(f"{endpoint} lists a file that it does not have"),
        KeyError: ImportRefusedError(f"{endpoint} does not answer like a hub"),
        TypeError: ImportRefusedError(f"{endpoint} does not answer like a hub"),
        AttributeError: ImportRefusedError(f"{endpoint} does not answer like a hub"),
    }
    for kind, told in known.items():
        if isinstance(error, kind):
            return told
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return UnauthorizedError(f"{endpoint} wants a token that opens the model: set HF_TOKEN")
        return SourceUnavailableError(f"{endpoint} answered {status}")
    if isinstance(error, ValueError):
        return ImportRefusedError(
            f"{endpoint} does not answer like a hub, or a file is over the 50 GB that a hub gives "
            "by plain HTTP: such a model must be split"
        )
    return SourceUnavailableError(f"{endpoint}: {type(error).__name__}")


def _listed(entry: Any) -> HubFile:
    """One entry of the tree, checked; nothing in it need be what it should be."""
    path, size = entry.path, entry.size
    digest = entry.lfs.sha256 if entry.lfs is not None else ""
    lfs_size = entry.lfs.size if entry.lfs is not None else size
    if not isinstance(path, str) or type(size) is not int or lfs_size != size:
        raise ImportRefusedError("the hub lists a file without a true path and size")
    if digest and not (isinstance(digest, str) and is_digest(digest)):
        raise ImportRefusedError(f"the hub announces no SHA-256 of {path[:200]!r}")
    return HubFile(path, size, digest)


def _hidden(path: str) -> bool:
    return any(segment.startswith(".") for segment in path.split("/"))
