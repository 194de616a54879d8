"""``headwater status`` and ``headwater config``: what runs, and what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ConfigOption,
    EdgeOption,
    JsonOption,
    OriginOption,
    StateDirOption,
    TierName,
    TokenFileOption,
    place,
)
from infra.commands.output import FAILED, command

config_app = typer.Typer(help="The configuration in force.", no_args_is_help=True)


def status(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show tiers, channels, revisions, workers and the cache. Exits 1 where something is not ready.

    Example:

      $ headwater status
      $ headwater status --edge https://edge:7401 --token-file admin-token --json
    """
    with command(as_json=as_json) as output:
        from infra.overview import overview

        where = place(state_dir, origin=origin, edge=edge, token_file=token_file)
        found = overview(where.reachable())
        output.result(found.as_dict(), found.show)
        healthy = found.healthy
    if not healthy:
        raise typer.Exit(FAILED)


@config_app.command("show")
def show_config(
    config: ConfigOption = None,
    tier: Annotated[
        list[TierName] | None,
        typer.Option("--tier", help="One tier; all if none is given."),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what is not the default.")
    ] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show every value that is in force, and whether default, file or environment set it.

    Without --config it is the state directory's headwater.toml, if there is one.

    Example:

      $ headwater config show --tier edge --changed
      $ HEADWATER_EDGE__PORT=8080 headwater config show --config headwater.toml --json
    """
    with command(as_json=as_json) as output:
        from infra.config_view import show_in_force

        file = config or _known_config(state_dir)
        found = show_in_force(tuple(str(name) for name in tier or TierName), file, changed=changed)
        output.result(found.as_dict(), found.show)


def _known_config(state_dir: Path) -> Path | None:
    from infra.state import StateDir

    file = StateDir(state_dir).config_file
    return file if file.exists() else None
