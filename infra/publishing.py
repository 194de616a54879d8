"""A publisher's side of an origin: its key and the way in, held together for a few calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from infra.parity import EngineOracle
from origin.admin_client import OriginAdmin
from origin.fileset import inspect
from origin.keys import load_key
from origin.offer import LocalFile, from_disk
from origin.publish import GoldenMaker, Published, publish
from origin.publish_static import PublishedSite, publish_static
from wire.errors import NameInvalidError, NotFoundError
from wire.http_client import BlockingClient
from wire.paths import HEALTHZ

MIN_PREFIX = 8
"""Digits of a revision that are enough to name it, if only one begins so."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PublisherDesk:
    """An origin's administrative API, and the key that signs revisions."""

    origin: OriginAdmin
    key: Signer

    def publish(
        self,
        files: Path | Sequence[LocalFile],
        model: str,
        channel: str,
        *,
        metadata: Mapping[str, str] | None = None,
        private: bool = False,
        parity: bool = False,
        golden: GoldenMaker | None = None,
        progress: Progress = lambda *_: None,
    ) -> Published:
        """As ``origin.publish.publish``.

        Args:
            files: what ``origin.offer.from_disk`` takes, or its result.
            golden: asks every variant what it answers (``infra.golden``).
            parity: load the checked file in llama.cpp too, and compare tokenizers and rendered
                conversations with it.
        """
        offered = from_disk(files) if isinstance(files, Path) else files
        with ExitStack() as stack:
            oracle = None
            if parity and (first := inspect(offered).model_file) is not None:
                oracle = stack.enter_context(EngineOracle(first.file, model))
            return publish(
                offered,
                model,
                channel,
                self.origin,
                self.key,
                metadata=metadata,
                private=private,
                oracle=oracle,
                render=oracle.render if oracle is not None else None,
                golden=golden,
                progress=progress,
            )

    def publish_static(
        self,
        folder: Path,
        model: str,
        channel: str,
        *,
        private: bool = False,
        immutable: Sequence[str] = (),
        progress: Progress = lambda *_: None,
    ) -> PublishedSite:
        """As ``origin.publish_static.publish_static``."""
        return publish_static(
            folder,
            model,
            channel,
            self.origin,
            self.key,
            private=private,
            immutable=immutable,
            progress=progress,
        )


@contextmanager
def open_origin(url: str, token: str) -> Iterator[OriginAdmin]:
    """An origin's administrative API; its connections are closed at the end.

    Raises:
        SourceUnavailableError: nobody answers there.
    """
    client = BlockingClient(url)
    try:
        client.get(HEALTHZ, limit_bytes=1 << 16)
    finally:
        client.close()
    origin = OriginAdmin(url, token)
    try:
        yield origin
    finally:
        origin.close()


@contextmanager
def open_publisher(url: str, token: str, key_file: Path) -> Iterator[PublisherDesk]:
    """The same with the publisher's key. Raises ``ConfigError`` where that cannot be read."""
    key = load_key(key_file)
    with open_origin(url, token) as origin:
        yield PublisherDesk(origin, key)


def find_revision(status: dict[str, Any], model: str, prefix: str) -> str:
    """The one published revision of ``model`` that begins with ``prefix``.

    Args:
        status: as the origin gives it.

    Raises:
        NameInvalidError: too short, not hexadecimal, or several begin so.
        NotFoundError: none does.
    """
    wanted = prefix.lower()
    if len(wanted) < MIN_PREFIX or any(c not in "0123456789abcdef" for c in wanted):
        raise NameInvalidError(
            f"a revision is given by at least {MIN_PREFIX} hexadecimal digits of its beginning"
        )
    known = {str(r["revision"]) for r in status["revisions"] if r["model"] == model}
    found = sorted(revision for revision in known if revision.startswith(wanted))
    if not found:
        raise NotFoundError(
            f"no revision {wanted} of {model} was published; `headwater status` lists them"
        )
    if len(found) > 1:
        raise NameInvalidError(f"{len(found)} revisions of {model} begin with {wanted}; give more")
    return found[0]
