"""``headwater fleet``: every edge and worker from one place, and commands to them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    JsonOption,
    OriginOption,
    Place,
    StateDirOption,
    TokenFileOption,
    place,
)
from infra.commands.output import FAILED, Output, command
from wire.errors import ConfigError, HeadwaterError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infra.fleet_admin import FleetAdmin

fleet_app = typer.Typer(invoke_without_command=True)
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="An edge's or a worker's name, as `fleet` shows it.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until the node says what became of it.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits.")
]


@fleet_app.callback()
def fleet(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="A live picture; q or Ctrl-C ends it.")
    ] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every edge and worker. Exits 1 where something is missing, failed or inconsistent.

    A name with * serves a canary. Skew: rolls that an edge does not know yet.

    Example:

      $ headwater fleet
      $ headwater fleet --watch --origin https://origin:7400 --token-file admin-token
      $ headwater fleet drain gpu-7 --wait
    """
    if context.invoked_subcommand is not None:
        return
    healthy = True
    with command(as_json=as_json) as output:
        if watch and as_json:
            raise ConfigError("--watch draws a picture; leave --json away")
        if watch and not output.console.is_terminal:
            raise ConfigError("--watch draws on a terminal; elsewhere ask again, with --json")
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.fleet_admin import FleetAdmin
        from infra.fleet_view import fleet as draw

        with FleetAdmin(access.url, access.secret) as admin:
            if watch:
                _watch(admin, output)
            else:
                found = admin.fleet()
                output.result(found, lambda console: console.print(draw(found)))
                healthy = bool(found["healthy"])
    if not healthy:
        raise typer.Exit(FAILED)


@fleet_app.command()
def drain(
    node: NodeArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a node take nothing new; what runs goes on. Until `resume`.

    Example:

      $ headwater fleet drain gpu-7 --wait
    """
    where = place(state_dir, origin=origin, token_file=token_file)
    _command("drain", node, where, wait_s=timeout if wait else None, as_json=as_json)


@fleet_app.command()
def resume(
    node: NodeArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a drain.

    Example:

      $ headwater fleet resume gpu-7
    """
    where = place(state_dir, origin=origin, token_file=token_file)
    _command("resume", node, where, wait_s=timeout if wait else None, as_json=as_json)


@fleet_app.command()
def restart(
    node: NodeArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a worker's engine anew, once what runs has ended.

    Example:

      $ headwater fleet restart gpu-7 --wait
    """
    where = place(state_dir, origin=origin, token_file=token_file)
    _command("restart", node, where, wait_s=timeout if wait else None, as_json=as_json)


@fleet_app.command()
def repull(
    node: NodeArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600.0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a worker forget what it has on disk of its revision, and pull it again.

    Example:

      $ headwater fleet repull gpu-7 --wait
    """
    where = place(state_dir, origin=origin, token_file=token_file)
    _command("repull", node, where, wait_s=timeout if wait else None, as_json=as_json)


@fleet_app.command()
def forget(
    node: NodeArgument,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Miss a node no longer that will not come back.

    Example:

      $ headwater fleet forget gpu-7
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.fleet_admin import FleetAdmin

        with FleetAdmin(access.url, access.secret) as admin:
            found = admin.forget(node)
        output.result(found, lambda console: console.print(f"{node}: forgotten", markup=False))


@fleet_app.command("consistency")
def show_consistency(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL[@CHANNEL]", help="The channel is stable if none is given."),
    ],
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who serves what a channel names, and who does not. Exits 1 where somebody does not.

    Example:

      $ headwater fleet consistency chat-small
    """
    with command(as_json=as_json) as output:
        from wire.paths import model_at_channel

        name, channel = model_at_channel(model)
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.fleet_admin import FleetAdmin
        from infra.fleet_view import consistency

        with FleetAdmin(access.url, access.secret) as admin:
            found = admin.consistency(name, channel)
        output.result(found, lambda console: console.print(consistency(found)))
    if not found["consistent"]:
        raise typer.Exit(FAILED)


def _command(action: str, node: str, where: Place, *, wait_s: float | None, as_json: bool) -> None:
    """Give a command; follow it for ``wait_s`` seconds, where there are any."""
    with command(as_json=as_json) as output:
        access = where.origin_admin()
        from infra.fleet_admin import FleetAdmin
        from infra.fleet_view import order_line, served_by_none_but

        with FleetAdmin(access.url, access.secret) as admin:
            order: dict[str, Any] = admin.command(node, action)
            if action == "drain":
                with suppress(HeadwaterError):  # the command is given, whatever is known of others
                    for name in served_by_none_but(node, admin.fleet()):
                        output.note(
                            f"no other worker serves {name}: nobody answers it until "
                            f"`headwater fleet resume {node}`"
                        )
            if wait_s is not None:
                order = admin.wait(order, timeout_s=wait_s)
        output.result(order, lambda console: console.print(order_line(order), markup=False))
    if order["state"] in {"failed", "expired"}:
        raise typer.Exit(FAILED)


def _watch(admin: FleetAdmin, output: Output) -> None:
    """The picture again and again; an origin that is away is said, and asked again."""
    from rich.console import Group
    from rich.text import Text

    from infra.fleet_view import fleet as draw
    from infra.render import plain
    from infra.watching import watch

    last: list[RenderableType] = [Text("no answer yet", style="dim")]

    def picture() -> RenderableType:
        try:
            last[0] = draw(admin.fleet())
        except HeadwaterError as error:
            return Group(Text(plain(error.message), style="red"), last[0])
        return last[0]

    watch(picture, output.console)
