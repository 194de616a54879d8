"""``headwater origin | edge | worker``: one tier in this process, the same program that an image
runs; and ``headwater origin init``.
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

from infra.commands.options import ConfigOption, JsonOption
from infra.commands.output import command, print_json
from wire.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

PortOption = Annotated[
    int | None, typer.Option("--port", help="Port to listen on; 0 is any free one.")
]
_PACKAGES = {"origin": "origin", "edge": "edge_tier", "worker": "gpu_worker"}
_READY_LOOK_S = 0.05

origin_app = typer.Typer(invoke_without_command=True)


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
        _run("origin", config, port, as_json)


@origin_app.command("init")
def origin_init(
    config: ConfigOption = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="File with the root key's passphrase (mode 600); or "
            "HEADWATER_ROOT_PASSPHRASE; asked for where neither is given.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an origin's keys, its first root and an empty signed repository.

    The passphrase encrypts the root key; take it and publisher.key offline.
    root.json is no secret: every edge and worker is installed with it.

    Example:

      $ headwater origin init --config headwater.toml
    """
    import asyncio

    with command(as_json=as_json) as output:
        from infra.config_view import load_config
        from origin.init import initialize

        settings = load_config("origin", config)
        asyncio.run(initialize(settings, _passphrase(passphrase_file)))
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
    _run("edge", config, port, as_json)


def worker(
    config: ConfigOption = None, port: PortOption = None, as_json: JsonOption = False
) -> None:
    """Run a GPU worker until Ctrl-C: the same as `python -m gpu_worker`.

    Example:

      $ headwater worker --config headwater.toml --port 0
    """
    _run("worker", config, port, as_json)


def _run(tier: str, config: Path | None, port: int | None, as_json: bool) -> None:
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


def _passphrase(file: Path | None) -> str:
    from infra.state import read_secret

    if file is not None:
        return read_secret(file)
    if given := os.environ.get("HEADWATER_ROOT_PASSPHRASE"):
        return given
    import sys

    if not sys.stdin.isatty():
        raise ConfigError(
            "the root key needs a passphrase: give --passphrase-file, or set "
            "HEADWATER_ROOT_PASSPHRASE"
        )
    asked: str = typer.prompt(
        "Passphrase for the root key", hide_input=True, confirmation_prompt=True, err=True
    )
    return asked


def _show_made(console: Console, made: dict[str, str]) -> None:
    from infra.render import pairs

    console.print(pairs(made))
    console.print(
        "Take root.key and publisher.key offline; install root.json on edges and workers."
    )
