"""``headwater audit``: who changed what at an edge, and whether the log of it was tampered with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    EdgeOption,
    JsonOption,
    StateDirOption,
    TokenFileOption,
    place,
)
from infra.commands.output import FAILED, command

if TYPE_CHECKING:
    from rich.console import Console


def audit(
    limit: Annotated[int, typer.Option(min=0, max=1000, help="The newest acts to show.")] = 50,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read this log here, instead of asking the edge."),
    ] = None,
    head: Annotated[
        str,
        typer.Option(metavar="HASH", help="Fail unless the newest hash is this, noted before."),
    ] = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who created, rotated and revoked keys, and verify the log's chain. Exits 1 if it breaks.

    Example:

      $ headwater audit --limit 20
      $ headwater audit --file edge-audit.jsonl --head 3f8c... --json
    """
    with command(as_json=as_json) as output:
        if file is not None:
            found = _read(file, limit)
        else:
            access = place(state_dir, edge=edge, token_file=token_file).edge_admin()
            from infra.edge_admin import EdgeAdmin

            with EdgeAdmin(access.url, access.secret) as admin:
                found = admin.audit(limit)
        chain = found["chain"]
        if head and not chain["problem"] and chain["head"] != head:
            chain["problem"] = "the newest hash is another than the one that was noted"
        output.result(found, lambda console: _show(console, found))
    if chain["problem"]:
        raise typer.Exit(FAILED)


def _read(file: Path, limit: int) -> dict[str, Any]:
    import msgspec

    from edge_tier.gateway.audit import AuditConfig, AuditLog
    from wire.errors import NotFoundError

    if not file.exists():
        raise NotFoundError(f"there is no audit log {file}")
    log = AuditLog(AuditConfig(file=file))
    found: dict[str, Any] = msgspec.to_builtins(
        {"records": log.newest(limit), "chain": log.verify()}
    )
    return found


def _show(console: Console, found: dict[str, Any]) -> None:
    from infra.render import pairs, table

    rows = [
        (
            record["seq"],
            record["time"][:19],
            record["actor"],
            record["action"],
            record["subject"],
            record["outcome"],
        )
        for record in found["records"]
    ]
    console.print(table(("seq", "time", "actor", "act", "on", "outcome"), rows, right="seq"))
    chain = found["chain"]
    state = chain["problem"] or f"holds from record {chain['first_seq']} to {chain['head_seq']}"
    console.print(pairs({"chain": state, "newest hash": chain["head"]}), soft_wrap=True)
