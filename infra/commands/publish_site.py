"""``headwater publish --kind static``: a folder of web pages on its way to the edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.commands.options import Place
from infra.commands.output import Output
from wire.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

_NAMED = 5
"""Names that a note gives."""


@dataclass(frozen=True, slots=True)
class SiteOrder:
    """What to publish, and where it will stand."""

    folder: Path
    model: str
    channel: str
    immutable: tuple[str, ...]
    private: bool


def refuse_options_of_models(given: Iterable[str]) -> None:
    """Raises ``ConfigError`` where an option was given that says nothing about a site."""
    names = ", ".join(given)
    if names:
        raise ConfigError(f"{names}: not for --kind static, which publishes a folder as it is")


def publish_site(
    output: Output, where: Place, order: SiteOrder, publisher_key: Path | None
) -> None:
    """Publish a folder as a static site and tell where it is to be found.

    Raises:
        ConfigError: no name, no origin, or no key is known.
        HeadwaterError: as ``origin.publish_static.publish_static``.
    """
    from infra.publishing import open_publisher
    from wire.paths import ASSETS, DEFAULT_CHANNEL

    if not order.model:
        raise ConfigError("give the site a name: --model NAME")
    access, key = where.origin_admin(), where.publisher_key(publisher_key)
    with (
        open_publisher(access.url, access.secret, key) as desk,
        output.progress(order.model) as progress,
    ):
        published = desk.publish_static(
            order.folder,
            order.model,
            order.channel,
            private=order.private,
            immutable=order.immutable,
            progress=progress,
        )
    if published.hidden:
        output.note(f"left out, because hidden: {_some(published.hidden)}")
    if published.uncompressed:
        output.note(
            f"the folder's own files, not compressed forms: {_some(published.uncompressed)}"
        )
    at = "" if order.channel == DEFAULT_CHANNEL else f"@{order.channel}"
    result = {
        **asdict(published),
        "kind": "static",
        "channel": order.channel,
        "private": order.private,
        "address": f"{ASSETS}/{order.model}{at}/",
    }

    def show(console: Console) -> None:
        from infra.render import pairs, size

        sizes = {"size", "compressed_bytes", "sent_bytes"}
        shown = {
            name.replace("_", " "): size(float(str(value))) if name in sizes else value
            for name, value in result.items()
            if name not in {"hidden", "uncompressed"}
        }
        console.print(pairs(shown))

    output.result(result, show)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
