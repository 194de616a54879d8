"""``headwater up``: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from infra.commands.output import Output, command

if TYPE_CHECKING:
    from rich.console import Console

    from infra.local import Local
    from infra.local_sites import Ports
    from infra.state import Ready

_FREE = "0 is any free one."


def up(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin_port: Annotated[int, typer.Option(help=f"Port of the origin; {_FREE}")] = 7400,
    edge_port: Annotated[int, typer.Option(help=f"Port of the edge; {_FREE}")] = 7401,
    worker_port: Annotated[int, typer.Option(help=f"Port of the worker; {_FREE}")] = 7402,
    cloud_port: Annotated[int, typer.Option(help=f"Port of the cloud server; {_FREE}")] = 7403,
    regions: Annotated[
        str,
        typer.Option(
            "--regions",
            metavar="NAME[,NAME...]",
            help="An edge and a worker for each of these, with files of their own in "
            "regions/NAME; the ports of each are 10 above the one before.",
        ),
    ] = "",
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            metavar="FILE",
            help="Gets URLs, API key and admin token once everything answers (mode 600), as "
            "ready.json in the state directory does.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run origin, edge, worker and a cloud server here, with the demo models, until Ctrl-C.

    The first start makes keys, tokens and an API key; later ones find them.
    One at a time can run on a state directory.

    Example:

      $ headwater up --state-dir /tmp/hw --edge-port 0 --ready-file /tmp/hw/ready
      $ headwater chat "What is the capital of France?"
      $ headwater up --regions eu-west,us-east
    """
    from infra.local_sites import Ports

    ports = Ports(origin=origin_port, edge=edge_port, worker=worker_port, cloud=cloud_port)
    with command(as_json=as_json) as output:
        from infra.signals import run_until_told

        names = tuple(name.strip() for name in regions.split(",") if name.strip())
        run_until_told(_up(output, state_dir, ports, names, ready_file))


async def _up(
    output: Output,
    state_dir: Path,
    ports: Ports,
    regions: tuple[str, ...],
    ready_file: Path | None,
) -> None:
    from infra.local import Local
    from infra.signals import told_to_stop

    async with Local(state_dir, ports, regions=regions, report=output.note) as local:
        with output.notes.status("starting") as status:

            def progress(model: str, step: str, done: int, total: int) -> None:
                status.update(f"publishing {model}: {step} {done}/{total} B")

            ready = await local.up(
                ready_file=ready_file,
                progress=progress,
                step=lambda what: status.update(f"starting: waiting for {what}"),
            )
        _announce(output, local, ready)
        await told_to_stop()
        output.note("stopping")


def _announce(output: Output, local: Local, ready: Ready) -> None:
    from infra.render import pairs
    from wire.paths import CONSOLE

    shown: dict[str, str] = {"console": f"{ready.origin}{CONSOLE}", "origin": ready.origin}
    for region in ready.regions:
        shown |= {f"edge-{region.name}": region.edge, f"worker-{region.name}": region.worker}
    if not ready.regions:
        shown |= {"edge": ready.edge, "worker": ready.worker}
    shown |= {
        "cloud": ready.cloud,
        "state_dir": ready.state_dir,
        "ready_file": str(local.state.ready_file),
    }
    if local.new_api_key:
        shown["api_key"] = local.new_api_key

    def show(console: Console) -> None:
        console.print(pairs(shown))
        console.print(f"\nOPENAI_BASE_URL={ready.edge}/v1", soft_wrap=True, markup=False)
        if not local.new_api_key:
            console.print("the API key is the one made earlier; it stands in ready.json")
        console.print("the console is opened with the admin_token that stands in ready.json")
        console.print("Ctrl-C stops everything.")

    output.result(shown, show)
