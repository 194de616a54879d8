"""``headwater worker``: a GPU worker in this process; and ``headwater worker report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ConfigOption,
    JsonOption,
    StateDirOption,
    place,
)
from infra.commands.output import command
from infra.commands.tiers import PortOption, run_in_process

worker_app = typer.Typer(invoke_without_command=True)


@worker_app.callback()
def worker(
    context: typer.Context,
    config: ConfigOption = None,
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a GPU worker until Ctrl-C: the same as `python -m gpu_worker`.

    Example:

      $ headwater worker --config headwater.toml --port 0
      $ headwater worker report
    """
    if context.invoked_subcommand is None:
        run_in_process("worker", config, port, as_json)


@worker_app.command()
def report(
    url: Annotated[
        str | None,
        typer.Option("--worker", metavar="URL", help="The worker, instead of the state dir's."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the worker's token."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw it into this file, too.")
    ] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what a worker's boot and its latest roll spent their time on, and whose bytes they took.

    With --json it is every waterfall that the worker remembers.

    Example:

      $ headwater worker report --svg boot.svg
      $ headwater worker report --worker http://gpu-7:7402 --token-file worker-token --json
    """
    with command(as_json=as_json) as output:
        from infra.edge_admin import TierAdmin
        from infra.timeline import boot_and_roll, read_waterfalls, show
        from infra.timeline_svg import timeline_svg
        from wire.errors import ConfigError, NotFoundError
        from wire.files import write_atomically

        access = place(state_dir, token_file=token_file).worker(url)
        with TierAdmin(access.url, access.secret) as admin:
            found = read_waterfalls(admin.status())
        if not found:
            raise NotFoundError(f"{access.url} has not booted a model yet; see `headwater status`")
        shown = boot_and_roll(found)
        if svg is not None:
            try:
                write_atomically(svg, timeline_svg(shown).encode())
            except OSError as error:
                raise ConfigError(f"cannot write {svg}: {error.strerror}") from error
            output.note(f"drawn into {svg}")
        output.result(found, lambda console: show(console, shown))
