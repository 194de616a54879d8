"""The passphrase of root keys: from a file, the environment, or the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wire.errors import ConfigError

PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the root key's passphrase (mode 600); or "
        "HEADWATER_ROOT_PASSPHRASE; asked for where neither is given.",
    ),
]


def passphrase(file: Path | None, *, confirm: bool = True) -> str:
    """The passphrase.

    Args:
        confirm: ask twice, because a key is made with it.

    Raises:
        ConfigError: none is given and nobody can be asked.
    """
    from infra.state import read_secret

    if file is not None:
        return read_secret(file)
    if given := os.environ.get("HEADWATER_ROOT_PASSPHRASE"):
        return given
    if not sys.stdin.isatty():
        raise ConfigError(
            "the root key needs a passphrase: give --passphrase-file, or set "
            "HEADWATER_ROOT_PASSPHRASE"
        )
    asked: str = typer.prompt(
        "Passphrase for the root key", hide_input=True, confirmation_prompt=confirm, err=True
    )
    return asked
