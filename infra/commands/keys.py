"""``headwater keys``: who may use an edge, for what, how much and how long."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    EdgeOption,
    JsonOption,
    PersonalDataName,
    PrivacyName,
    ScopeName,
    StateDirOption,
    TokenFileOption,
    place,
)
from infra.commands.output import command
from wire.errors import NameInvalidError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from infra.edge_admin import EdgeAdmin

_AMOUNTS = "How much (0 is unlimited)"
_TREATED = "How prompts are treated"
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

keys_app = typer.Typer(
    help="API keys of an edge: create, list, show, rotate, revoke.", no_args_is_help=True
)
KeyIdArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="See `headwater keys list`.")]


def _amount(option: str, text: str) -> Any:
    return typer.Option(option, min=0, metavar="N", help=text, rich_help_panel=_AMOUNTS)


@keys_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option("--tenant", help="Whom the key is for.")],
    scope: Annotated[
        list[ScopeName] | None, typer.Option("--scope", help="chat if none is given.")
    ] = None,
    expires: Annotated[
        str,
        typer.Option(
            metavar="WHEN", help="A span from now (12h, 90d) or a time (2030-01-31T12:00Z)."
        ),
    ] = "",
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Models it may name; all if none is given.")
    ] = None,
    requests: Annotated[int | None, _amount("--requests-per-minute", "600 if not given.")] = None,
    tokens: Annotated[int | None, _amount("--tokens-per-minute", "Prompt and answer.")] = None,
    inputs: Annotated[int | None, _amount("--input-tokens-per-minute", "Prompts.")] = None,
    outputs: Annotated[int | None, _amount("--output-tokens-per-minute", "Answers.")] = None,
    streams: Annotated[int | None, _amount("--concurrent-streams", "At the same time.")] = None,
    per_day: Annotated[int | None, _amount("--tokens-per-day", "Of UTC's days.")] = None,
    per_month: Annotated[int | None, _amount("--tokens-per-month", "Of UTC's months.")] = None,
    max_output: Annotated[int | None, _amount("--max-output-tokens", "For one answer.")] = None,
    policy: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of the policy file.", rich_help_panel=_TREATED),
    ] = "",
    privacy: Annotated[
        PrivacyName,
        typer.Option(help="local: prompts never go to the cloud.", rich_help_panel=_TREATED),
    ] = PrivacyName.ANY,
    personal_data: Annotated[
        PersonalDataName | None,
        typer.Option(help="As the policy has it if not given.", rich_help_panel=_TREATED),
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
      $ headwater keys create --tenant shop --expires 90d --tokens-per-month 5000000
    """
    limits = {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "input_tokens_per_minute": inputs,
        "output_tokens_per_minute": outputs,
        "concurrent_streams": streams,
        "tokens_per_day": per_day,
        "tokens_per_month": per_month,
        "max_output_tokens": max_output,
    }
    treated = {"privacy": str(privacy), "models": model or []}
    if personal_data is not None:
        treated["personal_data"] = str(personal_data)
    if policy:
        treated["name"] = policy
    request: dict[str, Any] = {
        "tenant": tenant,
        "scopes": sorted({str(name) for name in scope or [ScopeName.CHAT]}),
        "limits": {name: value for name, value in limits.items() if value is not None},
        "policy": treated,
        "note": note,
    }
    with command(as_json=as_json) as output:
        if expires:
            request["expires"] = parse_when(expires, datetime.now(UTC)).isoformat()
        with _admin(state_dir, edge, token_file) as admin:
            made = admin.create_key(request)
        output.result(made, lambda console: _show_secret(console, made))
        if not as_json:
            output.note("The key is not shown again.")


@keys_app.command("list")
def list_keys(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys with tenant, scopes and the main limits, the revoked ones too.

    Example:

      $ headwater keys list --json
    """
    with command(as_json=as_json) as output:
        with _admin(state_dir, edge, token_file) as admin:
            found = admin.keys()
        output.result({"keys": found}, lambda console: _show_keys(console, found))


@keys_app.command("show")
def show_key(
    key_id: KeyIdArgument,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is kept of a key: all limits, its policy, its times.

    Example:

      $ headwater keys show k3x9q2ab
    """
    with command(as_json=as_json) as output:
        with _admin(state_dir, edge, token_file) as admin:
            found = admin.key(key_id)
        output.result(found, lambda console: _show_key(console, found))


@keys_app.command("revoke")
def revoke_key(
    key_id: KeyIdArgument,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key for good, on every process of the edge within a second.

    Requests that are running are not broken off.

    Example:

      $ headwater keys revoke k3x9q2ab
    """
    with command(as_json=as_json) as output:
        with _admin(state_dir, edge, token_file) as admin:
            ended = admin.revoke_key(key_id)
        output.result(ended, lambda console: _show_keys(console, [ended]))


@keys_app.command("rotate")
def rotate_key(
    key_id: KeyIdArgument,
    grace: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old secret works too (15m, 24h).")
    ] = "0s",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret. Its id, limits, budgets and expiry stay.

    Example:

      $ headwater keys rotate k3x9q2ab --grace 24h
    """
    with command(as_json=as_json) as output:
        span = parse_span(grace)
        with _admin(state_dir, edge, token_file) as admin:
            made = admin.rotate_key(key_id, span.total_seconds())
        output.result(made, lambda console: _show_secret(console, made))
        if not as_json:
            output.note("The key is not shown again.")


def parse_span(text: str) -> timedelta:
    """``90d``, ``12h``, ``15m``, ``30s``. Raises ``NameInvalidError``."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise NameInvalidError(f"{text[:32]!r} is not a span; write for example 15m, 12h or 90d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def parse_when(text: str, now: datetime) -> datetime:
    """A span from now, or a time in ISO 8601 (UTC where it names no zone).

    Raises:
        NameInvalidError: neither.
    """
    if _SPAN.fullmatch(text):
        return now + parse_span(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise NameInvalidError(
            f"{text[:32]!r} is neither a span (90d) nor a time (2030-01-31T12:00Z)"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def state_of(key: dict[str, Any], now: datetime) -> str:
    """``valid``, ``expired`` or ``revoked``."""
    if key.get("revoked"):
        return "revoked"
    expires = key.get("expires")
    return "expired" if expires and datetime.fromisoformat(expires) <= now else "valid"


def _admin(state_dir: Path, edge: str | None, token_file: Path | None) -> EdgeAdmin:
    access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
    from infra.edge_admin import EdgeAdmin

    return EdgeAdmin(access.url, access.secret)


def _show_secret(console: Console, made: dict[str, Any]) -> None:
    from infra.render import pairs

    console.print(pairs({"key id": made["key_id"], "key": made["key"]}), soft_wrap=True)


def _show_key(console: Console, key: dict[str, Any]) -> None:
    from infra.render import pairs

    shown: dict[str, object] = {
        "key id": key["key_id"],
        "tenant": key["tenant"],
        "state": state_of(key, datetime.now(UTC)),
        "scopes": ", ".join(sorted(key.get("scopes", []))),
    }
    for name in ("created", "expires", "rotated", "previous_until", "revoked"):
        if key.get(name):
            shown[name.replace("_", " ")] = key[name]
    for name in key.get("limits", {}):
        shown[name.replace("_", " ")] = _limit(key, name)
    for name, value in key.get("policy", {}).items():
        told = ", ".join(value) if isinstance(value, list) else value
        shown["policy" if name == "name" else name.replace("_", " ")] = told or "-"
    shown["note"] = key.get("note", "")
    console.print(pairs(shown))


def _show_keys(console: Console, found: list[dict[str, Any]]) -> None:
    from infra.render import table

    now = datetime.now(UTC)
    rows = [
        (
            key["key_id"],
            key["tenant"],
            state_of(key, now),
            (key.get("expires") or "-")[:10],
            _limit(key, "requests_per_minute"),
            _limit(key, "tokens_per_minute"),
            _limit(key, "tokens_per_month"),
            key.get("policy", {}).get("privacy", "any"),
        )
        for key in found
    ]
    columns = ("key id", "tenant", "state", "expires", "req/min", "tok/min", "tok/mon", "privacy")
    console.print(table(columns, rows, right="req/min,tok/min,tok/mon"))


def _limit(key: dict[str, Any], name: str) -> str:
    value = key.get("limits", {}).get(name, 0)
    return str(value) if value else "∞"
