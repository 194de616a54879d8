"""``headwater roll | rollback | rolls``: channels on their way to another revision and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    JsonOption,
    OriginOption,
    StateDirOption,
    TokenFileOption,
    TryOn,
    place,
)
from infra.commands.output import FAILED, Output, command
from wire.errors import ConfigError

if TYPE_CHECKING:
    from origin.admin_client import OriginAdmin

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL[@CHANNEL]", help="The channel is stable if none is given.")
]
CanaryOption = Annotated[
    str,
    typer.Option(
        "--canary", metavar="SHARE", help="Try it on this share first, such as 10%; then on all."
    ),
]
ByOption = Annotated[
    TryOn,
    typer.Option(
        "--by",
        help="Of workers, whose callers are whoever comes; or of callers, whom others never join.",
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Follow it to its end; exits 1 where it is not done.")
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="For the record.")]
_UNDER_WAY = frozenset({"preheating", "canary", "observing", "promoting", "rolling", "aborting"})
RevisionText = "The revision, or at least 8 digits of its beginning."


def roll(
    model: ModelArgument,
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help=RevisionText)],
    canary: CanaryOption = "",
    by: ByOption = TryOn.WORKERS,
    watch: WatchOption = False,
    preheat: Annotated[
        bool,
        typer.Option("--preheat/--no-preheat", help="Fill the edges' caches before workers pull."),
    ] = True,
    abort_on_failure: Annotated[
        bool,
        typer.Option(
            "--abort-on-failure/--keep-going",
            help="Turn back where too many workers refuse it while all take it.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Over a roll that still runs.")] = False,
    why: WhyOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a channel to a published revision; workers load it beside the old one and switch.

    The origin drives it: edges are preheated; a canary is promoted or withdrawn by its error rate,
    its time to first token, and whether its workers load the revision and pass its golden probe.

    Example:

      $ headwater roll chat-small --to 0fa83c11
      $ headwater roll chat-small --to 0fa83c11 --canary 10% --watch
      $ headwater roll chat-small@candidate --to 0fa83c11 --canary 5% --by callers
    """
    with command(as_json=as_json) as output, ExitStack() as stack:
        from infra.publishing import find_revision, open_origin
        from infra.rolling import operator, percent_of
        from wire.paths import model_at_channel

        name, channel = model_at_channel(model)
        percent = percent_of(canary)
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        admin = stack.enter_context(open_origin(access.url, access.secret))
        revision = find_revision(admin.status(), name, to)
        begun = admin.start_rollout(
            name,
            channel,
            revision,
            percent=percent,
            by=by.value,
            preheat=preheat,
            abort_on_failure=abort_on_failure,
            force=force,
            who=operator(),
            why=why,
        )
        _finish(admin, begun, output, watch=watch)


def rollback(
    model: ModelArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="REVISION", help=f"{RevisionText} The one before if none is given."
        ),
    ] = "",
    canary: CanaryOption = "",
    by: ByOption = TryOn.WORKERS,
    watch: WatchOption = False,
    why: WhyOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a channel back to the revision before, at once; a roll that runs is aborted.

    Again, it goes back further. `rolls MODEL` shows the way.

    Example:

      $ headwater rollback chat-small
      $ headwater rollback chat-small --to 64c90a32 --why "answers are too short"
    """
    with command(as_json=as_json) as output, ExitStack() as stack:
        from infra.publishing import find_revision, open_origin
        from infra.rolling import operator, percent_of
        from wire.paths import model_at_channel

        name, channel = model_at_channel(model)
        percent = percent_of(canary)
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        admin = stack.enter_context(open_origin(access.url, access.secret))
        revision = find_revision(admin.status(), name, to) if to else ""
        options: dict[str, Any] = {"percent": percent, "by": by.value}
        begun = admin.roll_back(
            name, channel, revision=revision, **options, who=operator(), why=why
        )
        _finish(admin, begun, output, watch=watch, is_rollback=True)


def rolls(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL[@CHANNEL]]", help="All channels if none is given.")
    ] = "",
    watch: WatchOption = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Give up the roll that runs; the channel goes back.")
    ] = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="End the canary of the roll that runs: all take it.")
    ] = False,
    why: WhyOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is being rolled and what was, with the reasons; or decide what runs.

    Example:

      $ headwater rolls
      $ headwater rolls chat-small --watch
      $ headwater rolls chat-small --abort --why "wrong file"
    """
    with command(as_json=as_json) as output, ExitStack() as stack:
        from infra.publishing import open_origin

        if (watch or abort or promote) and not model:
            raise ConfigError("name the model whose roll is meant")
        if abort and promote:
            raise ConfigError("give --abort or --promote, not both")
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        admin = stack.enter_context(open_origin(access.url, access.secret))
        if not model:
            _show_all(admin, output)
            return
        _one_channel(admin, model, output, watch=watch, abort=abort, promote=promote, why=why)


def _show_all(admin: OriginAdmin, output: Output) -> None:
    from infra.roll_view import history

    found = admin.rollouts()
    output.result(found, lambda console: console.print(history(found["channels"])))


def _one_channel(
    admin: OriginAdmin,
    model: str,
    output: Output,
    *,
    watch: bool,
    abort: bool,
    promote: bool,
    why: str,
) -> None:
    from infra.roll_view import history, moves
    from infra.rolling import operator
    from wire.paths import model_at_channel

    name, channel = model_at_channel(model)
    if abort:
        ended = admin.abort_rollout(name, channel, who=operator(), why=why)
        _finish(admin, ended, output, watch=True, is_rollback=True)
        return
    if promote:
        _finish(admin, admin.promote_rollout(name, channel, who=operator()), output, watch=watch)
        return
    found = admin.rollout(name, channel)
    running = found["record"].get("current")
    if watch and running:
        _finish(admin, running, output, watch=True)
        return

    def show(console: Any) -> None:
        console.print(history([found["record"]]))
        console.print(moves(found["record"]))

    output.result(found, show)


def _finish(
    admin: OriginAdmin,
    begun: Mapping[str, Any],
    output: Output,
    *,
    watch: bool,
    is_rollback: bool = False,
) -> None:
    """Say what was accepted, and how to follow it; or follow it to its end and say how that was.

    Args:
        is_rollback: an abort is what was wanted.

    Raises:
        typer.Exit: it was followed and did not end as wanted, or ended otherwise at once.
    """
    from infra.render import pairs
    from infra.roll_view import outcome

    one = dict(begun)
    if watch:
        one = _followed(admin, begun, output)
    stage = one.get("stage", "preheating")
    aborted_as_wanted = is_rollback and stage == "aborted"
    where = one.get("previous", "") if aborted_as_wanted else one["revision"]
    result = {
        "model": one["model"],
        "channel": one["channel"],
        "revision": where,
        "previous": one["revision"] if aborted_as_wanted else one.get("previous", ""),
        "rollout": one["id"],
        "stage": stage,
        "reason": one.get("reason", ""),
    }
    if watch:
        result |= {"notes": one.get("notes", []), "refused": one.get("refused", {})}
        result["took_s"] = round(one.get("ended", 0.0) - one["started"], 3)
        output.result(result, lambda console: console.print(outcome(one)))
    else:
        shown = {name: value for name, value in result.items() if value}
        output.result(result, lambda console: console.print(pairs(shown)))
        if stage in _UNDER_WAY:
            name = f"{one['model']}@{one['channel']}".removesuffix("@stable")
            output.note(f"the origin goes on with it; to follow it: headwater rolls {name} --watch")
    failed = stage != "done" if watch else stage in {"aborted", "superseded"}
    if failed and not aborted_as_wanted:
        raise typer.Exit(FAILED)


def _followed(admin: OriginAdmin, begun: Mapping[str, Any], output: Output) -> dict[str, Any]:
    """A live picture on stderr where that is a terminal, else a line for each stage."""
    from infra.roll_view import of_id, rollout
    from infra.rolling import follow

    if output.notes.is_terminal:
        from rich.live import Live

        with Live(console=output.notes, auto_refresh=False, transient=True) as live:

            def draw(found: Mapping[str, Any]) -> None:
                if found:
                    live.update(rollout(found, begun["id"]), refresh=True)

            return follow(admin, begun, draw)
    seen: list[str] = []

    def note(found: Mapping[str, Any]) -> None:
        one = of_id(found, begun["id"]) if found else None
        stage = one["stage"] if one is not None else "the origin does not answer"
        if not seen or seen[-1] != stage:
            seen.append(stage)
            output.note(stage)

    return follow(admin, begun, note)
