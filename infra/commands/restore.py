"""``headwater origin restore``: a lost store, from edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigOption, JsonOption, PullTokenFileOption, pull_token
from infra.commands.output import FAILED, command
from infra.commands.trust_options import TrustRootOption

if TYPE_CHECKING:
    from rich.console import Console

    from infra.restoring import Outcome

FromOption = Annotated[
    list[str],
    typer.Option("--from", metavar="URL", help="An edge; may be repeated. The newest wins."),
]
DocumentsOnlyOption = Annotated[
    bool,
    typer.Option(
        "--documents-only",
        help="Only what is signed; then `headwater verify --repair-from` brings the rest.",
    ),
]
AcceptExpiredOption = Annotated[
    bool,
    typer.Option("--accept-expired", help="Take documents whose offline grace is over, too."),
]


def restore(
    edges: FromOption,
    config: ConfigOption = None,
    trust_root: TrustRootOption = None,
    token_file: PullTokenFileOption = None,
    documents_only: DocumentsOnlyOption = False,
    accept_expired: AcceptExpiredOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill an origin's lost store from edges: signed documents, manifests and chunks.

    For an origin that does not run, with its keys folder. Everything is verified from the first
    root.json. A store that has documents is never touched. A restore that was cut off is
    repeated. Exits 1 where a revision is on no edge.

    Example:

      $ headwater origin restore --config headwater.toml --from http://edge-1:7401
      $ headwater origin restore --from http://edge-1:7401 --from http://edge-2:7401
    """
    with command(as_json=as_json) as output:
        from infra.config_view import load_config
        from infra.restoring import Wanted
        from infra.restoring import restore as bring

        settings = load_config("origin", config)
        wanted = Wanted(
            edges=tuple(dict.fromkeys(edges)),
            trust_root=trust_root,
            pull_token=pull_token(token_file),
            documents_only=documents_only,
            accept_expired=accept_expired,
        )
        with output.progress("restore") as progress:
            outcome = bring(settings, wanted, progress)
        result = outcome.as_dict(settings.store)
        output.result(result, lambda console: _show(console, outcome, settings.store))
    if result["failed"]:
        raise typer.Exit(FAILED)


def _show(console: Console, outcome: Outcome, store: str) -> None:
    from infra.render import pairs, short, size
    from infra.restoring import LOST

    versions = outcome.view.versions
    values: dict[str, object] = {
        "store": store,
        "documents": f"from {outcome.source}: timestamp {versions['timestamp']}, root "
        f"{versions['root']}, {len(outcome.view.channels)} channels, "
        f"{len(outcome.view.revisions)} revisions; {_state(outcome)}",
        **outcome.edges,
    }
    if outcome.repair is not None:
        values["brought"] = (
            f"{len(outcome.complete)} revisions, {outcome.repair.chunks} chunks, "
            f"{size(outcome.repair.chunk_bytes)}"
        )
        values |= {f"not {short(name)}": why for name, why in outcome.repair.failed.items()}
    for revision, edges in outcome.taken_down.items():
        values[f"not {short(revision)}"] = f"taken down, says {', '.join(edges)}"
    if outcome.made_token:
        values["admin token"] = "a new one was made"
    console.print(pairs(values))
    console.print("Not restored:")
    for line in LOST:
        console.print(f"  - {line}", markup=False)
    console.print("Next:")
    for line in _next(outcome):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _state(outcome: Outcome) -> str:
    """How old what was taken is."""
    if outcome.view.state == "fresh":
        return "fresh"
    return "expired; the origin renews what its online key signs as soon as it runs"


def _next(outcome: Outcome) -> list[str]:
    """What to type now."""
    lines = ["headwater origin --config headwater.toml"]
    lines += [f"headwater purge revision:{name} --hard" for name in outcome.taken_down]
    if outcome.repair is None:
        lines.append("headwater verify --repair-from URL")
    return [*lines, "headwater verify"]
