"""``headwater tokens``: pull tokens, which open private models to whoever pulls them.

They work on the file that the tier reads, and take effect there within seconds.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from infra.commands.output import command

if TYPE_CHECKING:
    from rich.console import Console

    from wire.pull_tokens import PullTokens, TokenRecord

tokens_app = typer.Typer(
    help="Pull tokens for private models: create, list, revoke.", no_args_is_help=True
)
_DAY_S = 86_400.0


class ServingTier(StrEnum):
    """A tier that models are pulled from."""

    EDGE = "edge"
    ORIGIN = "origin"


TierOption = Annotated[
    ServingTier, typer.Option("--tier", help="Which tier of the state directory takes it.")
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="The tier's file of pull tokens, instead of the state directory's.",
    ),
]


@tokens_app.command("create")
def create_token(
    model: Annotated[
        list[str],
        typer.Option("--model", help="A model, or a pattern with *; may be repeated."),
    ],
    expires_days: Annotated[
        float | None,
        typer.Option("--expires-days", min=0.001, help="Never, if none is given."),
    ] = None,
    note: Annotated[str, typer.Option(help="For the list.")] = "",
    tier: TierOption = ServingTier.EDGE,
    file: FileOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a pull token. It is shown once; only its hash is kept.

    Example:

      $ headwater tokens create --model 'chat-*' --expires-days 90 --note "build farm"
      $ HF_TOKEN=hf_... HF_ENDPOINT=http://edge:7401 hf download headwater/chat-small
    """
    with command(as_json=as_json) as output:
        import time

        expires = None if expires_days is None else time.time() + expires_days * _DAY_S
        record, token = _open(state_dir, tier, file).mint(model, expires=expires, note=note)
        made = {**_shown(record), "token": token}

        def show(console: Console) -> None:
            from infra.render import pairs

            console.print(pairs({"token id": record.token_id, "token": token}), soft_wrap=True)
            output.note("The token is not shown again.")

        output.result(made, show)


@tokens_app.command("list")
def list_tokens(
    tier: TierOption = ServingTier.EDGE,
    file: FileOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """List pull tokens with their models and expiry.

    Example:

      $ headwater tokens list --tier origin --json
    """
    with command(as_json=as_json) as output:
        found = [_shown(record) for record in _open(state_dir, tier, file).records()]
        output.result({"tokens": found}, lambda console: _show(console, found))


@tokens_app.command("revoke")
def revoke_token(
    token_id: Annotated[
        str, typer.Argument(metavar="TOKEN_ID", help="See `headwater tokens list`.")
    ],
    tier: TierOption = ServingTier.EDGE,
    file: FileOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """End a pull token for good.

    Example:

      $ headwater tokens revoke k3x9q2ab0z
    """
    with command(as_json=as_json) as output:
        ended = _shown(_open(state_dir, tier, file).revoke(token_id))
        output.result(ended, lambda console: _show(console, [ended]))


def _open(state_dir: Path, tier: ServingTier, file: Path | None) -> PullTokens:
    from infra.state import StateDir
    from wire.errors import ConfigError
    from wire.pull_tokens import PullTokens

    path = file or StateDir(state_dir).pull_tokens(str(tier))
    if not path.parent.is_dir():
        raise ConfigError(
            f"there is no folder {path.parent}; make the state directory with `headwater up`, or "
            "give the tier's pull_tokens_file with --file"
        )
    return PullTokens.open(path)


def _shown(record: TokenRecord) -> dict[str, Any]:
    return {
        "token_id": record.token_id,
        "models": list(record.models),
        "created": _time(record.created),
        "expires": _time(record.expires) if record.expires is not None else None,
        "note": record.note,
    }


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show(console: Console, found: list[dict[str, Any]]) -> None:
    from infra.render import table

    rows = [
        (
            token["token_id"],
            " ".join(token["models"]),
            token["created"],
            token["expires"] or "never",
            token["note"],
        )
        for token in found
    ]
    console.print(table(("token id", "models", "created", "expires", "note"), rows))
