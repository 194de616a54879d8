"""What a tier offers, under the names that stock clients use.

A client writes ``NAMESPACE/model`` or ``model``; a branch or tag is a channel (``main`` and
``latest`` mean ``stable``); a commit is the first 40 digits of a revision, because that is how long
a commit is to the clients of the Hugging Face Hub, or all 64. Whatever a reader may not have is
answered as if it were not there. Pure: a verified view comes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wire.errors import (
    ForbiddenError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    UnauthorizedError,
)
from wire.paths import DEFAULT_CHANNEL, channel_name, model_name
from wire.pull_tokens import Reader
from wire.trust import TrustView

COMMIT_DIGITS = 40
MAX_NAME_CHARS = 255
"""Of a model with its namespace."""
DEFAULT_NAMES = ("main", "latest")
"""What stock clients ask for where their user names no revision."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class FacadeConfig:
    """How models are offered to stock clients."""

    namespaces: tuple[str, ...] = ("headwater", "library")
    """What may stand before a model's name. Ollama writes ``library`` where its user writes none.
    """
    public_url: str = ""
    """Where clients reach this tier (``https://models.example``), for the few answers that must
    name it; what the request says where empty."""
    tree_page_entries: int = 8_192
    """Entries of a file listing in one answer, at most; a whole revision by default."""
    signed_url_s: float = 6 * 3_600.0
    """How long the address of a private model's file opens it without a token."""
    registry_token_s: float = 900.0
    """How long a token of the registry's token endpoint counts."""
    held_manifest_bytes: int = 32 * 1024 * 1024
    """Manifests kept decoded."""
    revisions_searched: int = 256
    """Revisions of a model in which a digest is looked for, at most."""
    digests_held: int = 65_536
    """Digests whose revision is remembered."""


class ModelUnknownError(NotFoundError):
    """No such model, for this reader."""

    code = "model_unknown"


class RevisionUnknownError(NotFoundError):
    """The model has no such channel or revision, for this reader."""

    code = "revision_unknown"


class CatalogMissingError(HeadwaterError):
    """Nothing is verified yet, so nothing is known to be public."""

    status = 503
    code = "not_ready"


@dataclass(frozen=True, slots=True)
class Found:
    """What a name led to."""

    model: str
    revision: str
    channel: str = ""
    """The channel that was named; empty where the revision itself was, which never moves."""

    @property
    def commit(self) -> str:
        """The revision as a commit."""
        return commit_of(self.revision)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A verified view, by model. Made with :func:`catalog_of`."""

    view: TrustView
    revisions: dict[str, tuple[str, ...]] = field(repr=False)
    """Model → its signed revisions, those that channels point to first."""
    model_of: dict[str, str] = field(repr=False)
    """Revision → model."""
    pointed: dict[str, dict[str, str]] = field(repr=False)
    """Model → channel → revision, sorted by channel."""

    def may_read(self, model: str, revision: str, reader: Reader) -> bool:
        """Whether the revision is signed, and public or opened by what the reader has."""
        named = (model, revision)
        if named not in self.view.revisions:
            return False
        return named not in self.view.private or reader.opens(model)

    def is_private(self, revision: str) -> bool:
        """Whether it takes a token to read this revision."""
        return (self.model_of.get(revision, ""), revision) in self.view.private

    def readable(self, model: str, reader: Reader) -> tuple[str, ...]:
        """The revisions of a model that the reader may have.

        Raises:
            UnauthorizedError: none, and the reader showed nothing that opens this model.
            ForbiddenError: none, and the reader's token is not for this model.
            ModelUnknownError: none, and the reader's token is for this model.
        """
        found = tuple(
            revision
            for revision in self.revisions.get(model, ())
            if self.may_read(model, revision, reader)
        )
        if found:
            return found
        if not reader.known:
            raise UnauthorizedError(f"no model {model!r}, or it needs a valid pull token")
        if not reader.opens(model):
            # Said of every model that the token does not name, there or not.
            raise ForbiddenError(f"this pull token does not open the model {model!r}")
        raise ModelUnknownError(f"no model {model!r}")

    def channels(self, model: str, reader: Reader) -> dict[str, str]:
        """Channel → revision, sorted; only what the reader may have."""
        return {
            channel: revision
            for channel, revision in self.pointed.get(model, {}).items()
            if self.may_read(model, revision, reader)
        }

    def find(self, model: str, name: str, reader: Reader) -> Found:
        """What a branch, tag or commit of a model stands for.

        Raises:
            UnauthorizedError, ForbiddenError, ModelUnknownError: as :meth:`readable`.
            RevisionUnknownError: no such channel or revision, for this reader.
        """
        readable = self.readable(model, reader)
        if _COMMIT.fullmatch(name):
            for revision in readable:
                if revision.startswith(name):
                    return Found(model, revision)
        try:
            channel = channel_name(name)
        except NameInvalidError:
            raise RevisionUnknownError(f"{model} has no revision of that name") from None
        pointed = self.pointed.get(model, {})
        if channel in DEFAULT_NAMES and channel not in pointed:
            channel = DEFAULT_CHANNEL
        if pointed.get(channel) not in readable:
            raise RevisionUnknownError(f"{model} has no revision {name!r}")
        return Found(model, pointed[channel], channel)


class CatalogSource:
    """The catalog of whatever view is the newest; made anew only where the view is another."""

    def __init__(self, view: Callable[[], TrustView | None]) -> None:
        self._view = view
        self._catalog: Catalog | None = None

    def __call__(self) -> Catalog:
        """The current catalog. Raises ``CatalogMissingError`` where nothing is verified yet."""
        view = self._view()
        if view is None:
            raise CatalogMissingError("no verified trust metadata yet; try again soon")
        if self._catalog is None or self._catalog.view is not view:
            self._catalog = catalog_of(view)
        return self._catalog


def catalog_of(view: TrustView) -> Catalog:
    """A view, by model."""
    pointers = view.pointers()
    pointed: dict[str, dict[str, str]] = {}
    for pointer in pointers:
        pointed.setdefault(pointer.model, {})[pointer.channel] = pointer.revision
    first = [(pointer.model, revision) for pointer in pointers for revision in pointer.revisions]
    revisions: dict[str, list[str]] = {}
    for model, revision in dict.fromkeys([*first, *sorted(view.revisions)]):
        revisions.setdefault(model, []).append(revision)
    return Catalog(
        view=view,
        revisions={model: tuple(found) for model, found in revisions.items()},
        model_of={revision: model for model, revision in view.revisions},
        pointed=pointed,
    )


def commit_of(revision: str) -> str:
    """A revision as the commit that stock clients see."""
    return revision[:COMMIT_DIGITS]


def model_in(name: str, namespaces: Sequence[str]) -> str:
    """The model in ``NAMESPACE/model`` or ``model``.

    Raises:
        ModelUnknownError: another namespace.
        NameInvalidError: it can name nothing.
    """
    if len(name) > MAX_NAME_CHARS:
        raise NameInvalidError(f"the name of a model has at most {MAX_NAME_CHARS} characters")
    namespace, slash, model = name.rpartition("/")
    checked = model_name(model)
    if slash and namespace not in namespaces:
        for part in namespace.split("/"):
            model_name(part)
        raise ModelUnknownError("no model of that name")
    return checked
