"""``headwater status``, ``headwater keys`` and ``headwater config``: what runs, who may use it, and
what it was told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ConfigOption,
    EdgeOption,
    JsonOption,
    OriginOption,
    PersonalDataName,
    PrivacyName,
    ScopeName,
    StateDirOption,
    TierName,
    TokenFileOption,
    place,
)
from infra.commands.output import FAILED, command

if TYPE_CHECKING:
    from rich.console import Console

keys_app = typer.Typer(help="API keys of an edge: create, list, revoke.", no_args_is_help=True)
config_app = typer.Typer(help="The configuration in force.", no_args_is_help=True)
KeyIdArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="See `headwater keys list`.")]


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


@keys_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option("--tenant", help="Whom the key is for.")],
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option("--scope", help="chat if none is given."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests-per-minute", min=0, help="0 is unlimited.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=0, help="0 is unlimited.")
    ] = None,
    max_output: Annotated[
        int | None, typer.Option("--max-output-tokens", min=0, help="For one answer.")
    ] = None,
    privacy: Annotated[
        PrivacyName, typer.Option(help="local: prompts never go to the cloud.")
    ] = PrivacyName.ANY,
    personal_data: Annotated[
        PersonalDataName, typer.Option(help="What is done about it.")
    ] = PersonalDataName.FLAG,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Models it may name; all if none is given.")
    ] = None,
    note: Annotated[str, typer.Option(help="For the list.")] = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key. It is shown once; the edge keeps only a keyed hash of it.

    Example:

      $ headwater keys create --tenant shop --requests-per-minute 60 --privacy local
    """
    limits = {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "max_output_tokens": max_output,
    }
    request: dict[str, Any] = {
        "tenant": tenant,
        "scopes": sorted({str(name) for name in scope or [ScopeName.CHAT]}),
        "limits": {name: value for name, value in limits.items() if value is not None},
        "policy": {
            "privacy": str(privacy),
            "personal_data": str(personal_data),
            "models": model or [],
        },
        "note": note,
    }
    with command(as_json=as_json) as output:
        access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
        from infra.edge_admin import EdgeAdmin

        with EdgeAdmin(access.url, access.secret) as admin:
            made = admin.create_key(request)

        def show(console: Console) -> None:
            from infra.render import pairs

            console.print(pairs({"key id": made["key_id"], "key": made["key"]}), soft_wrap=True)
            output.note("The key is not shown again.")

        output.result(made, show)


@keys_app.command("list")
def list_keys(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys with tenant, limits and policy, the revoked ones too.

    Example:

      $ headwater keys list --json
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
        from infra.edge_admin import EdgeAdmin

        with EdgeAdmin(access.url, access.secret) as admin:
            found = admin.keys()
        output.result({"keys": found}, lambda console: _show_keys(console, found))


@keys_app.command("revoke")
def revoke_key(
    key_id: KeyIdArgument,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key for good.

    Example:

      $ headwater keys revoke k3x9q2ab
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
        from infra.edge_admin import EdgeAdmin

        with EdgeAdmin(access.url, access.secret) as admin:
            ended = admin.revoke_key(key_id)
        output.result(ended, lambda console: _show_keys(console, [ended]))


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


def _show_keys(console: Console, found: list[dict[str, Any]]) -> None:
    from infra.render import table

    rows = [
        (
            key["key_id"],
            key["tenant"],
            "revoked" if key.get("revoked") else "valid",
            _limit(key, "requests_per_minute"),
            _limit(key, "tokens_per_minute"),
            key.get("policy", {}).get("privacy", "any"),
            key.get("note", ""),
        )
        for key in found
    ]
    columns = ("key id", "tenant", "state", "req/min", "tok/min", "privacy", "note")
    console.print(table(columns, rows, right="req/min,tok/min"))


def _limit(key: dict[str, Any], name: str) -> str:
    value = key.get("limits", {}).get(name, 0)
    return str(value) if value else "∞"
