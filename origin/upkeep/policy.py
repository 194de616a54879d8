"""Which revisions are worth keeping, and which objects nobody needs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from origin.stores.objects import Stat
from wire.chunk import is_digest
from wire.paths import revision_key
from wire.trust import TrustView

Revision = tuple[str, str]
"""Model and revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcConfig:
    """What is kept: table ``[origin.gc]``."""

    keep_recent: int = 3
    """The newest revisions of each model that a prune leaves in the signed list."""
    keep_younger_s: float = 7 * 86_400.0
    """A prune leaves every revision that was published later than this ago."""
    grace_s: float = 86_400.0
    """An object younger than this is never removed, nor a chunk that somebody asked about within
    it: as long as an upload may take, from its first question to its signature."""


def reasons(
    view: TrustView,
    pins: Set[Revision],
    published: Mapping[str, float],
    config: GcConfig,
    now: float,
) -> dict[Revision, str]:
    """Why each signed revision should stay; those without a reason are missing.

    Args:
        published: revision → when its manifest was written, seconds since 1970.
    """
    found: dict[Revision, str] = {}
    newest = sorted(view.revisions, key=lambda r: (-published.get(r[1], 0.0), r))
    for model in {model for model, _ in view.revisions}:
        for revision in [r for r in newest if r[0] == model][: config.keep_recent]:
            found[revision] = "recent"
    for revision in view.revisions:
        if now - published.get(revision[1], 0.0) < config.keep_younger_s:
            found[revision] = "young"
        if revision in pins:
            found[revision] = "pinned"
    for pointer in view.pointers():
        for name in pointer.previous:
            if (pointer.model, name) in view.revisions:
                found[pointer.model, name] = f"before the current one of {pointer.channel}"
    for pointer in view.pointers():
        for name in pointer.revisions:
            found[pointer.model, name] = f"channel {pointer.channel}"
    return found


def expendable(
    view: TrustView,
    pins: Set[Revision],
    published: Mapping[str, float],
    config: GcConfig,
    now: float,
) -> list[Revision]:
    """The signed revisions that a prune may remove, in order."""
    return sorted(view.revisions.keys() - reasons(view, pins, published, config, now).keys())


def unsigned(
    stored: Mapping[str, float],
    view: TrustView,
    gone: Collection[str],
    config: GcConfig,
    now: float,
) -> list[str]:
    """The stored manifests that nobody can want: taken down, or old and not signed.

    Args:
        stored: revision → when its manifest was written.
        gone: surrogate keys that were taken down.
    """
    signed = {revision for _, revision in view.revisions}
    return sorted(
        revision
        for revision, written in stored.items()
        if revision_key(revision) in gone
        or (revision not in signed and now - written >= config.grace_s)
    )


def garbage(page: Iterable[Stat], needed: Set[str], config: GcConfig, now: float) -> list[Stat]:
    """The chunks of a page that nothing needs and that are not young. Names that are no chunk's
    are nobody's business."""
    return [
        stat
        for stat in page
        if is_digest(name := stat.key.rpartition("/")[2])
        and name not in needed
        and now - stat.modified >= config.grace_s
    ]
