"""``headwater gc | pin | verify | diff``: an origin's store kept small and sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    JsonOption,
    OriginOption,
    StateDirOption,
    TokenFileOption,
    place,
    pull_token,
)
from infra.commands.output import FAILED, Output, command

if TYPE_CHECKING:
    from rich.console import Console

    from infra.upkeep import UpkeepAdmin

_DAY_S = 86_400.0
SideArgument = Annotated[
    str, typer.Argument(help="MODEL@CHANNEL, MODEL@REVISION (at least 8 digits), or a GGUF file.")
]


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="First sign a list without revisions that nothing keeps."),
    ] = False,
    keep_recent: Annotated[
        int | None,
        typer.Option("--keep-recent", min=0, help="Newest revisions of each model that stay."),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option("--keep-days", min=0, help="Younger revisions stay."),
    ] = None,
    publisher_key: Annotated[
        Path | None,
        typer.Option(
            "--publisher-key",
            metavar="FILE",
            help="Key that signs the shorter list; the state directory's if none is given.",
        ),
    ] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove from an origin's store what no signed revision and no upload needs.

    What the publisher signed stays, until --prune takes it off the list: never what a channel
    (or its canary) or a pin names, the newest, or the young. --keep-* are for --prune.

    Example:

      $ headwater gc --dry-run
      $ headwater gc --prune --keep-recent 2 --keep-days 7
    """
    with command(as_json=as_json) as output:
        where = place(state_dir, origin=origin, token_file=token_file)
        access = where.origin_admin()
        from infra import upkeep

        days = keep_days * _DAY_S if keep_days is not None else None
        with upkeep.UpkeepAdmin(access.url, access.secret) as admin:
            keeps = {"keep_recent": keep_recent, "keep_younger_s": days}
            pruned: list[dict[str, str]] = []
            if prune and dry_run:
                given = {name: value for name, value in keeps.items() if value is not None}
                pruned = admin.post("prune/plan", given)["remove"]
            elif prune:
                key = where.publisher_key(publisher_key)
                pruned = upkeep.prune(admin, key, keep_recent=keep_recent, keep_younger_s=days)
            with output.progress("origin") as progress:
                report = admin.run("gc", {"dry_run": dry_run}, progress)
        result = {**report, "pruned": pruned}
        output.result(result, lambda console: _show_gc(console, result))


def pin(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="At least 8 digits of its beginning.")
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Keep it no longer.")] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a published revision, whatever `headwater gc --prune` would remove.

    Example:

      $ headwater pin chat-small 0fa83c11
      $ headwater pin chat-small 0fa83c11 --remove
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.publishing import find_revision
        from infra.upkeep import UpkeepAdmin

        with UpkeepAdmin(access.url, access.secret) as admin:
            found = find_revision(admin.status(), model, revision)
            request = {"model": model, "revision": found, "remove": remove}
            result = admin.post("pins", request)
        output.result(result, lambda console: _show_pins(console, result))


def verify(
    repair_from: Annotated[
        list[str] | None,
        typer.Option(
            "--repair-from",
            metavar="URL",
            help="An edge or another origin that gives what is rotten or missing; may be repeated.",
        ),
    ] = None,
    max_rate: Annotated[
        int,
        typer.Option("--max-rate", min=0, metavar="BYTES", help="Read per second; 0 is unlimited."),
    ] = 0,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read an origin's whole store and check it: chunks, manifests, signatures. Exits 1 where
    something is wrong and was not repaired.

    Rotten chunks are set aside in the store's folder corrupt/. To repair private models,
    HEADWATER_PULL_TOKEN is a pull token of who gives them.

    Example:

      $ headwater verify --max-rate 100000000
      $ headwater verify --repair-from http://edge-1:7401
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.upkeep import UpkeepAdmin

        with UpkeepAdmin(access.url, access.secret) as admin:
            with output.progress("origin") as progress:
                report = admin.run("verify", {"bytes_per_s": max_rate}, progress)
            damage = report["missing_chunks"] + len(report["bad_manifests"])
            if repair_from and damage:
                report["repair"] = _repair(admin, repair_from, report, output)
                damage -= report["repair"]["chunks_of_report"] + report["repair"]["manifests"]
        sound = not (damage or report["trust"])
        output.result(report, lambda console: _show_verify(console, report, sound))
    if not sound:
        raise typer.Exit(FAILED)


def diff(
    a: SideArgument,
    b: SideArgument,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a machine that has A must fetch for B: bytes, files, metadata.

    Example:

      $ headwater diff chat-small@stable chat-small@candidate
      $ headwater diff chat-small@0fa83c11 chat-small@5b1e99d0 --json
      $ headwater diff old.gguf new.gguf
    """
    with command(as_json=as_json) as output:
        from origin.upkeep.diff import diff as compare

        if Path(a).is_file() and Path(b).is_file():
            from infra.upkeep import local_manifest

            name = Path(b).name
            with output.progress(name) as progress:
                old = local_manifest(Path(a), path=name, progress=progress)
                new = local_manifest(Path(b), path=name, progress=progress)
            ends = {"a": a, "b": b}
        else:
            access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
            from infra.upkeep import UpkeepAdmin, find_manifest

            with UpkeepAdmin(access.url, access.secret) as admin:
                status = admin.status()
                first, old = find_manifest(admin, status, a)
                second, new = find_manifest(admin, status, b)
            ends = {"a": first, "b": second}
        import msgspec

        result = {**ends, **msgspec.to_builtins(compare(old, new))}
        output.result(result, lambda console: _show_diff(console, result))


def _repair(
    admin: UpkeepAdmin, urls: Sequence[str], report: Mapping[str, Any], output: Output
) -> dict[str, Any]:
    from infra.repair import Repair, open_suppliers

    suppliers = open_suppliers(urls, pull_token(None))
    try:
        with output.progress("repair") as progress:
            repair = Repair(admin, suppliers, progress)
            repair.run(dict(report))
    finally:
        suppliers.close()
    done = len([name for name in report["missing"] if name not in repair.failed])
    return {
        "chunks": repair.chunks,
        "chunks_of_report": done,
        "manifests": repair.manifests,
        "failed": repair.failed,
    }


def _show_gc(console: Console, result: Mapping[str, Any]) -> None:
    from infra.render import pairs, size

    verb = "would remove" if result["dry_run"] else "removed"
    console.print(
        pairs(
            {
                "pruned": f"{len(result['pruned'])} revisions taken off the signed list",
                verb: f"{result['removed_revisions']} revisions, {result['removed_chunks']} "
                f"chunks, {size(result['removed_bytes'])}",
                "kept": f"{result['kept_revisions']} revisions, {result['kept_chunks']} chunks, "
                f"{size(result['kept_bytes'])}",
            }
        )
    )


def _show_pins(console: Console, result: Mapping[str, Any]) -> None:
    from infra.render import short, table

    rows = [(one["model"], short(one["revision"])) for one in result["pins"]]
    console.print(table(("model", "pinned revision"), rows))


def _show_verify(console: Console, report: Mapping[str, Any], sound: bool) -> None:
    from infra.render import pairs, short, size

    values: dict[str, object] = {
        "store": "sound" if sound else "damaged",
        "read": f"{report['chunks']} chunks, {size(report['bytes'])}, "
        f"{report['revisions']} revisions",
        "rotten chunks": report["rotten_chunks"],
        "missing chunks": report["missing_chunks"],
        "trust": report["trust"] or "verified",
    }
    for revision, reason in report["bad_manifests"].items():
        values[short(revision)] = reason
    for revision in report["incomplete"]:
        values[short(revision)] = "lacks chunks; publish it again, or use --repair-from"
    if repair := report.get("repair"):
        values["repaired"] = f"{repair['chunks']} chunks, {repair['manifests']} manifests"
        values |= {f"not {short(name)}": why for name, why in repair["failed"].items()}
    console.print(pairs(values))


def _show_diff(console: Console, result: Mapping[str, Any]) -> None:
    from infra.render import pairs, size, table

    rows = [
        (one["path"], one["change"], size(one["size_b"]), size(one["shared"]), size(one["moved"]))
        for one in result["files"]
    ]
    columns = ("file", "is", "size", "shared", "to move")
    console.print(table(columns, rows, right="size,shared,to move"))
    share = result["moved"] / result["size_b"] if result["size_b"] else 0.0
    values = {
        "to move": f"{size(result['moved'])} of {size(result['size_b'])} ({share:.1%}), "
        f"{result['moved_chunks']} of {result['chunks_b']} chunks"
    }
    for key, (old, new) in result["metadata"].items():
        values[key] = f"{old or '(none)'} → {new or '(none)'}"
    console.print(pairs(values))
