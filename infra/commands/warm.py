"""``headwater warm``: a model in an edge's cache before anybody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    EdgeOption,
    JsonOption,
    StateDirOption,
    TokenFileOption,
    place,
)
from infra.commands.output import command
from wire.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


def warm(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL[@CHANNEL]", help="The channel is stable if none is given."),
    ],
    variant: Annotated[
        str,
        typer.Option("--variant", metavar="NAME", help="One variant; every file if none is given."),
    ] = "",
    pin: Annotated[
        bool | None,
        typer.Option(
            "--pin/--unpin",
            help="Never evict what the channel points at, now and after rolls; or do so again.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch into an edge's cache what a channel points at, behind all real requests.

    What is there already is not fetched again, so a warm-up that broke off is repeated. Ctrl-C
    cancels it.

    Example:

      $ headwater warm chat-small --edge https://edge:7401 --variant Q4_K_M --pin
      $ headwater warm chat-small --unpin
    """
    with command(as_json=as_json) as output:
        from infra.warming import WarmAdmin
        from wire.paths import model_at_channel, variant_name

        name, channel = model_at_channel(model)
        if variant:
            variant_name(variant)
        if pin is False and variant:
            raise ConfigError("--unpin releases the whole channel; leave --variant away")
        access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
        with WarmAdmin(access.url, access.secret) as admin:
            if pin is False:
                result = admin.unpin(name, channel)
            else:
                begun = admin.warm(name, channel, variant=variant, pin=bool(pin))
                with output.progress(name) as progress:
                    result = admin.watch(begun, progress)
        output.result(result, lambda console: _show(console, result))


def _show(console: Console, result: dict[str, Any]) -> None:
    from infra.render import pairs, size

    if "was_kept" in result:
        words = "released" if result["was_kept"] else "was not pinned by an operator"
        console.print(f"{result['model']}@{result['channel']}: {words}", markup=False)
        return
    shown = {
        "model": f"{result['model']}@{result['channel']}",
        "revision": result["revision"],
        "in the cache": f"{size(result['done_bytes'])} in {result['done_chunks']} chunks",
        "fetched now": size(result["fetched_bytes"]),
    }
    if result["variant"]:
        shown["variant"] = result["variant"]
    console.print(pairs(shown))
