"""``headwater origin | edge``: one tier in this process, the same program that an image runs; and
``headwater origin init``. The worker has a file of its own.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands import restore, trust
from infra.commands.options import ConfigOption, JsonOption
from infra.commands.output import command, print_json
from infra.commands.passphrase import PassphraseOption, passphrase

if TYPE_CHECKING:
    from rich.console import Console

PortOption = Annotated[
    int | None, typer.Option("--port", help="Port to listen on; 0 is any free one.")
]
_PACKAGES = {"origin": "origin", "edge": "edge_tier", "worker": "gpu_worker"}
_READY_LOOK_S = 0.05
_DAY_S = 86_400.0

origin_app = typer.Typer(invoke_without_command=True)
origin_app.command("trust")(trust.trust)
origin_app.command("rotate")(trust.rotate)
origin_app.command("renew")(trust.renew)
origin_app.command("new-key")(trust.new_key)
origin_app.command("restore")(restore.restore)


@origin_app.callback()
def origin(
    context: typer.Context,
    config: ConfigOption = None,
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an origin until Ctrl-C: the same as `python -m origin`.

    Example:

      $ headwater origin init --config headwater.toml
      $ headwater origin --config headwater.toml --port 7400
    """
    if context.invoked_subcommand is None:
        run_in_process("origin", config, port, as_json)


@origin_app.command("init")
def origin_init(
    config: ConfigOption = None,
    passphrase_file: PassphraseOption = None,
    root_keys: Annotated[
        int, typer.Option("--root-keys", metavar="N", min=1, help="How many root keys to make.")
    ] = 1,
    root_threshold: Annotated[
        int,
        typer.Option(
            "--root-threshold", metavar="K", min=1, help="How many of them a later root needs."
        ),
    ] = 1,
    grace_days: Annotated[
        float,
        typer.Option(
            "--offline-grace-days",
            metavar="DAYS",
            min=0,
            help="How long past its expiry tiers may work from what they verified.",
        ),
    ] = 7.0,
    as_json: JsonOption = False,
) -> None:
    """Make an origin's keys, its first root and an empty signed repository.

    The passphrase encrypts the root keys; take them and publisher.key offline.
    root.json is no secret: every edge and worker is installed with it.

    Example:

      $ headwater origin init --config headwater.toml
      $ headwater origin init --root-keys 3 --root-threshold 2
    """
    import asyncio

    with command(as_json=as_json) as output:
        from infra.config_view import load_config
        from origin.init import initialize

        settings = load_config("origin", config)
        asyncio.run(
            initialize(
                settings,
                passphrase(passphrase_file),
                root_keys=root_keys,
                root_threshold=root_threshold,
                grace_s=grace_days * _DAY_S,
            )
        )
        made = {
            "keys": str(settings.keys_dir),
            "trust_root": str(settings.keys_dir / "root.json"),
            "publisher_key": str(settings.keys_dir / "publisher.key"),
            "admin_token_file": str(settings.admin_token_file),
            "store": settings.store,
        }
        output.result(made, lambda console: _show_made(console, made))


def edge(config: ConfigOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Run an edge until Ctrl-C: the same as `python -m edge_tier`.

    Example:

      $ HEADWATER_EDGE__ORIGINS='["http://origin:7400"]' headwater edge --config headwater.toml
    """
    run_in_process("edge", config, port, as_json)


def run_in_process(tier: str, config: Path | None, port: int | None, as_json: bool) -> None:
    """Run a tier until it is told to stop; ends the command with its exit status."""
    with command(as_json=as_json):
        if as_json:
            from infra.config_view import load_config

            _announce(tier, load_config(tier, config).ready_file)
        arguments = ["--config", str(config)] if config is not None else []
        arguments += ["--port", str(port)] if port is not None else []
        status = importlib.import_module(f"{_PACKAGES[tier]}.__main__").main(arguments)
    raise typer.Exit(status)


def _announce(tier: str, ready_file: Path | None) -> None:
    """Print what the tier writes into its ready file, once it does."""
    folder = None
    if ready_file is None:
        folder = Path(tempfile.mkdtemp(prefix="headwater-"))
        ready_file = folder / "ready.json"
        os.environ[f"HEADWATER_{tier.upper()}__READY_FILE"] = str(ready_file)
    ready_file.unlink(missing_ok=True)
    arguments = (ready_file, folder)
    threading.Thread(target=_print_ready, args=arguments, name="announce", daemon=True).start()


def _print_ready(ready_file: Path, folder: Path | None) -> None:
    """Wait for the file and print it; ``folder`` is removed with what is in it."""
    import msgspec

    while not ready_file.exists():
        threading.Event().wait(_READY_LOOK_S)
    print_json(msgspec.json.decode(ready_file.read_bytes()))
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _show_made(console: Console, made: dict[str, str]) -> None:
    from infra.render import pairs

    console.print(pairs(made))
    console.print(
        "Take the root keys and publisher.key offline; install root.json on edges and workers."
    )
