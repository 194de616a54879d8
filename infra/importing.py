"""What ``headwater publish`` was pointed at, as files on this disk: a file, a folder, a model on a
hub, or a URL.

What is fetched lies in a work folder of its own until it is published, so that an import that broke
off goes on where it was. One process works in such a folder at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from origin.chunker import plan, scan
from origin.errors import DigestMismatchError, PublishError
from origin.fileset import check_announced
from origin.importers.addresses import parse_url
from origin.importers.download import Downloader
from origin.importers.hub import SCHEME, Hub, HubLimits, hub_token, parse_reference
from origin.importers.transfer import FetchLimits
from origin.offer import GGUF_SUFFIX, LocalFile, from_disk, kind_of, refusal
from wire.errors import ConfigError, ConflictError
from wire.paths import file_path

if TYPE_CHECKING:
    from infra.quantizing import QuantizeReport

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Offer:
    """Files to publish. ``name``: what their source calls the model; empty where it does not."""

    files: tuple[LocalFile, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """How and how much is imported.

    Args:
        work_dir: where fetched files wait to be published.
        max_bytes: of one file.
        allow_private_network: a URL may lead to this machine and to private networks, and to any
            port.
    """

    work_dir: Path
    max_bytes: int = 200 * 10**9
    allow_private_network: bool = False


def names_a_model(source: str) -> bool:
    """Whether the source itself says what the model is called."""
    return source.startswith(SCHEME)


@contextmanager
def offered(
    source: str,
    config: ImportConfig,
    *,
    include: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> Iterator[Offer]:
    """The files of a source, as long as the context lasts. Blocking.

    What was fetched is removed when the context ends well, or when it ends in
    ``DigestMismatchError``; otherwise it is kept for the next attempt.

    Args:
        include: patterns of the files that are wanted, for folders and hubs.
        progress: told of the step ``fetch``.

    Raises:
        HeadwaterError: as the importers.
    """
    if "://" not in source:
        if include and not Path(source).is_dir():
            raise ConfigError("--include is for folders and hubs; this is one file")
        yield Offer(from_disk(Path(source), include))
        return
    if names_a_model(source):
        hub = Hub(token=hub_token(), limits=HubLimits(file_bytes=config.max_bytes))
        reference = parse_reference(source)
        with _work_folder(config, f"{hub.endpoint} {reference.repository}") as folder:
            found = hub.fetch(reference, folder, include=include, progress=progress)
            yield Offer(found.files, found.metadata, reference.name)
        return
    if include:
        raise ConfigError("--include is for folders and hubs; a URL names one file")
    target = parse_url(source, any_port=config.allow_private_network)
    with _work_folder(config, source) as folder:
        file = _fetched(source, target.shown, folder, config, progress)
        metadata = {"source": target.shown, "source.file": file.path}
        yield Offer((file,), metadata)


def _fetched(
    url: str, shown: str, folder: Path, config: ImportConfig, progress: Progress
) -> LocalFile:
    name = file_path(unquote(shown.rpartition("/")[2]))
    if kind_of(name) != "weights":
        raise PublishError(refusal(name))
    limits = FetchLimits(
        max_bytes=config.max_bytes,
        allow_private_network=config.allow_private_network,
        any_port=config.allow_private_network,
    )
    file = folder / name
    if not file.exists():
        Downloader(limits=limits).fetch(url, file, progress)
    return LocalFile(file=file, path=name)


@contextmanager
def _work_folder(config: ImportConfig, identity: str) -> Iterator[Path]:
    """The folder of one source, held by a lock."""
    folder = config.work_dir / hashlib.sha256(identity.encode()).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise PublishError(f"cannot work in {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError("this is being imported by another process") from error
        for rest in folder.rglob("*.incomplete"):  # of a process that was killed
            rest.unlink(missing_ok=True)
        try:
            yield folder
        except DigestMismatchError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


@contextmanager
def requantized(
    offer: Offer,
    types: Sequence[str],
    config: ImportConfig,
    *,
    keep_source: bool = False,
    measure: bool = True,
    progress: Progress = lambda *_: None,
) -> Iterator[tuple[Offer, QuantizeReport]]:
    """The offer with its GGUF file in these types, and the report on them. Blocking.

    Args:
        keep_source: offer the file itself as well.
        measure: measure perplexity, where an engine is installed.

    Raises:
        ConfigError: the offer has not exactly one GGUF file.
        HeadwaterError: it cannot be quantized.
    """
    from infra.quantizing import QuantizingConfig, quantized

    models = [file for file in offer.files if file.path.endswith(GGUF_SUFFIX)]
    if len(models) != 1:
        raise ConfigError(f"--quant wants one GGUF file; there are {len(models)}")
    source = models[0]
    if source.sha256:
        runs = plan(None, source.file.stat().st_size)
        check_announced(source, scan(source.file, runs, role="weights", progress=progress).sha256)
    kept = tuple(file for file in offer.files if keep_source or file is not source)
    with _work_folder(config, f"quantize {source.file.absolute()}") as folder:
        how = QuantizingConfig(measure=measure)
        made = quantized(source, types, folder, progress=progress, config=how)
        yield replace(offer, files=(*kept, *made.files)), made.report
