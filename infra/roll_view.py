"""How a rollout looks in a terminal of 80 columns. Values in, renderables out.

What workers and edges say goes through ``render``, which makes it harmless.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.render import duration, pairs, plain, short, size, table

_STYLES = {"done": "green", "aborted": "red", "aborting": "red", "superseded": "yellow"}
_NAMED = 6


def rollout(found: Mapping[str, Any], id: str) -> RenderableType:  # noqa: A002
    """A rollout as it stands: stage, edges, workers by revision, both revisions' figures.

    Args:
        found: as the origin gives it.
    """
    one = of_id(found, id)
    if one is None:
        return Text("the origin has forgotten this rollout", style="yellow")
    now = found.get("now") or {}
    shown: dict[str, object] = {"roll": title(one), "stage": _stage(one)}
    if edges := _edges(now.get("preheated") or {}):
        shown["edges"] = edges
    if workers := now.get("workers"):
        shown["workers"] = _workers(one, now.get("workers_by_revision") or {}, workers)
    if one.get("refused"):
        shown["refused by"] = _named(f"{w} ({why})" for w, why in sorted(one["refused"].items()))
    parts: list[RenderableType] = [pairs(shown)]
    figures = now.get("figures") or {}
    if any(side.get("requests") for side in figures.values()):
        parts += [Text(), _figures(one, figures)]
    parts += [Text(f"note: {plain(note)}", style="dim") for note in one.get("notes", ())]
    return Group(*parts)


def outcome(one: Mapping[str, Any]) -> Text:
    """How a rollout ended, in one line."""
    stage, name = one["stage"], f"{one['model']}@{one['channel']}"
    took = duration(max(0.0, one.get("ended", 0.0) - one["started"]) * 1e3)
    if stage == "done":
        count = one.get("serving", 0)
        serving = f"{count} worker{'' if count == 1 else 's'}"
        words = f"{name} serves {short(one['revision'])} on {serving}, after {took}"
    elif stage == "superseded":
        words = f"{name}: {one.get('reason', '')}"
    elif one["previous"]:
        words = f"{one.get('reason', '')}; {name} is back at {short(one['previous'])} after {took}"
    else:
        words = one.get("reason", "")
    return Text.assemble((f"{stage}: ", _STYLES.get(stage, "")), plain(words))


def history(channels: Iterable[Mapping[str, Any]], now: float | None = None) -> RenderableType:
    """What runs and what ran, the newest first, channel by channel; then the reasons."""
    at = time.time() if now is None else now
    rows, reasons = [], []
    for record in channels:
        current = [record["current"]] if record.get("current") else []
        for one in (*current, *record.get("past", ())):
            why = one.get("reason") or one.get("why") or "; ".join(one.get("notes", ()))
            stage = one.get("stage", "preheating")
            rows.append(
                (
                    f"{one['model']}@{one['channel']}",
                    _ago(at - one["started"]),
                    one.get("kind", "roll"),
                    short(one["revision"]),
                    Text(stage, style=_STYLES.get(stage, "cyan")),
                    one.get("who", ""),
                )
            )
            if why:
                told = f"{one['model']}@{one['channel']} to {short(one['revision'])}: "
                reasons.append(Text.assemble((plain(told), "dim"), plain(why)))
    if not rows:
        return Text("nothing was rolled yet", style="dim")
    columns = ("channel", "begun", "kind", "to", "stage", "by")
    return Group(table(columns, rows, right="begun"), *reasons)


def moves(record: Mapping[str, Any]) -> RenderableType:
    """Every pointer of a channel, the newest last."""
    rows = [
        (
            one["sequence"],
            time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(one["at"])),
            short(one["revision"]),
            f"{short(one['canary'])} {one['percent']}%" if one.get("canary") else "",
            one.get("kind", "found"),
            one.get("who", ""),
            one.get("why", ""),
        )
        for one in record.get("moves", ())
    ]
    columns = ("roll", "at", "revision", "canary", "kind", "by", "why")
    return table(columns, rows, right="roll")


def of_id(found: Mapping[str, Any], id: str) -> dict[str, Any] | None:  # noqa: A002
    """The rollout of this id in what the origin says of its channel; its stage filled in."""
    record = found["record"]
    every = [record["current"]] if record.get("current") else []
    for one in (*every, *record.get("past", ())):
        if one["id"] == id:
            return {"stage": "preheating", "kind": "roll", "previous": "", **one}
    return None


def title(one: Mapping[str, Any]) -> str:
    """What goes where."""
    before = f" from {short(one['previous'])}" if one.get("previous") else ""
    canary = ""
    if one.get("percent"):
        canary = f", {one['percent']}% of {one.get('by', 'workers')} first"
    return f"{one['model']}@{one['channel']} to {short(one['revision'])}{before}{canary}"


def _stage(one: Mapping[str, Any]) -> Text:
    stage = one["stage"]
    text = Text(stage, style=_STYLES.get(stage, "cyan"))
    if one.get("stage_s") and not one.get("ended"):
        text.append(f" for {duration(one['stage_s'] * 1e3)}", style="dim")
    if one.get("reason"):
        text.append(f": {plain(one['reason'])}")
    return text


def _edges(preheated: Mapping[str, Any]) -> str:
    return _named(f"{name} {_how_far(told)}" for name, told in preheated.items())


def _how_far(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "not begun"
    total = told.get("bytes", 0)
    if told["state"] == "running" and total:
        return f"{told.get('done_bytes', 0) / total:.0%} of {size(total)}"
    return str(told["state"])


def _workers(
    one: Mapping[str, Any], counts: Mapping[str, int], workers: Iterable[Mapping[str, Any]]
) -> str:
    served = ", ".join(
        f"{count} at {short(revision) or 'nothing yet'}"
        for revision, count in sorted(counts.items(), key=lambda item: item[0] != one["revision"])
    )
    busy = [f"{w['worker']} ({w['phase']})" for w in workers if w.get("phase")]
    canary = [w["worker"] for w in workers if w.get("canary")]
    parts = [served]
    if canary:
        parts.append(f"canary: {_named(canary)}")
    if busy:
        parts.append(f"at work: {_named(busy)}")
    return "; ".join(parts)


def _figures(one: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for side, revision in (("trial", one["revision"]), ("stable", one["previous"])):
        f = figures.get(side) or {}
        rows.append(
            (
                f"{short(revision)} {'new' if side == 'trial' else 'old'}",
                f.get("requests", 0),
                f"{f.get('error_rate', 0.0):.1%}",
                _time(f.get("first_token_p50_ms")),
                _time(f.get("first_token_p95_ms")),
            )
        )
    columns = ("revision", "requests", "errors", "first token p50", "p95")
    return table(columns, rows, right="requests,errors,first token p50,p95")


def _time(ms: float | None) -> str:
    return "none" if ms is None else duration(ms)


def _named(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _ago(seconds: float) -> str:
    for limit, unit, name in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            return f"{max(0.0, seconds) / unit:.0f} {name} ago"
    return f"{seconds / 86_400:.0f} d ago"
