"""How a fleet looks in a terminal of 80 to 100 columns. Values in, renderables out.

All text comes from nodes, so it goes through ``render.table``, which makes it harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.render import pairs, plain, short, size, table

_GOOD = frozenset({"ready", "asleep"})
_BAD = frozenset({"missing", "failed", "not_ready"})
_SHORT = 8
"""Digits of a revision in a narrow column."""


def fleet(found: Mapping[str, Any]) -> RenderableType:
    """Every edge, every worker, the channels that are not served everywhere, open commands."""
    parts: list[RenderableType] = []
    if not found.get("takes_reports", True):
        parts.append(Text("this origin takes no reports: give it origin.edge_token_file", "yellow"))
    edges, workers = found.get("edges", ()), found.get("workers", ())
    if not edges and not workers:
        parts.append(Text("no edge has reported here yet", style="dim"))
    if edges:
        parts += [_edges(edges), Text()]
    if workers:
        parts += [_workers(workers), Text()]
    parts += [_reason(edge, _why_of_edge(edge)) for edge in edges if _why_of_edge(edge)]
    parts += [
        _reason(worker, _why_of_worker(worker)) for worker in workers if _why_of_worker(worker)
    ]
    parts += [_channel(one) for one in found.get("channels", ()) if not one["consistent"]]
    under_way = [o for o in found.get("commands", ()) if o["state"] in {"waiting", "given"}]
    parts += [Text(f"under way: {order_line(order)}", style="cyan") for order in under_way]
    return Group(*parts)


def consistency(found: Mapping[str, Any]) -> RenderableType:
    """What a channel names, how many serve it, and who does not."""
    name = f"{found['model']}@{found['channel']}"
    shown: dict[str, object] = {
        "channel": name,
        "revision": f"{short(found['revision'])} (roll {found['sequence']})",
        "served by": f"{found['serving']} of {found['workers']} workers",
    }
    if found["canary"]:
        shown["canary"] = f"{short(found['canary'])}, on {found['serving_canary']} of them"
    verdict = Text("consistent", "green") if found["consistent"] else Text("not consistent", "red")
    parts: list[RenderableType] = [pairs({**shown, "verdict": verdict})]
    for apart in found["apart"]:
        served = f" ({apart['revision'][:_SHORT]})" if apart["revision"] else ""
        parts.append(Text(plain(f"{apart['kind']} {apart['node']}{served}: {apart['why']}")))
    return Group(*parts)


def order_line(order: Mapping[str, Any]) -> str:
    """A command in one line."""
    command = order["command"]
    through = f" through {', '.join(order['edges'])}" if order.get("edges") else ""
    problem = f": {order['problem']}" if order.get("problem") else ""
    return plain(f"{command['action']} {command['node']}: {order['state']}{through}{problem}")


def served_by_none_but(node: str, found: Mapping[str, Any]) -> list[str]:
    """The channels of which this worker is the only one that serves."""
    serving: dict[str, set[str]] = {}
    for worker in found.get("workers", ()):
        # Its own report may say already that it drains.
        if worker["state"] in _GOOD or worker["name"] == node:
            name = f"{worker['model']}@{worker['channel']}"
            serving.setdefault(name, set()).add(worker["name"])
    return sorted(name for name, workers in serving.items() if workers == {node})


def age(seconds: float) -> str:
    """How long ago, in one unit: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    for limit, unit, name in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            count = seconds / unit
            return f"{count:.1f} {name}" if name == "s" and count < 9.95 else f"{count:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def _edges(edges: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        (
            edge["name"],
            edge["region"],
            _state(edge["state"]),
            edge["workers"],
            _fill(edge["cache"]),
            _hit_ratio(edge["cache"]),
            _skew(edge["behind"]),
            age(edge["age_s"]),
        )
        for edge in edges
    ]
    columns = ("edge", "region", "state", "workers", "cache", "hits", "skew", "seen")
    return _single_lines(table(columns, rows, right="workers,cache,hits,skew,seen"))


def _workers(workers: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        (
            worker["name"],
            _model(worker),
            _revision(worker),
            _state(worker["state"], worker["phase"]),
            f"{worker['busy']}/{worker['slots']}",
            worker["queue"],
            age(worker["age_s"]),
        )
        for worker in workers
    ]
    columns = ("worker", "model", "revision", "state", "busy", "queue", "seen")
    return _single_lines(table(columns, rows, right="busy,queue,seen"))


def _single_lines(made: Table) -> Table:
    """The same with what is too long cut off: names first, which may be long and have no spaces to
    be broken at."""
    made.box, made.padding = None, (0, 2, 0, 0)
    for column in made.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    made.columns[0].no_wrap = False
    return made


def _reason(node: Mapping[str, Any], why: str) -> Text:
    style = "red" if node["state"] in _BAD else "yellow"
    return Text.assemble((f"{plain(node['name'])}: ", style), plain(why))


def _channel(found: Mapping[str, Any]) -> Text:
    name = plain(f"{found['model']}@{found['channel']}")
    served = f"{found['serving']} of {found['workers']} workers serve {short(found['revision'])}"
    return Text(f"{name}: not consistent; {served}", style="yellow")


def _state(state: str, phase: str = "") -> Text:
    style = "green" if state in _GOOD else "red" if state in _BAD else "yellow"
    shown = f"{state} {phase}" if phase else state
    return Text(plain(shown), style=style)


def _model(worker: Mapping[str, Any]) -> str:
    channel = worker["channel"]
    name = worker["model"] if channel == "stable" else f"{worker['model']}@{channel}"
    return f"{name} {worker['variant']}".rstrip()


def _revision(worker: Mapping[str, Any]) -> Text:
    shown = plain(worker["revision"][:_SHORT]) or "none"
    wanted = worker["wanted"]
    style = (
        "yellow" if wanted and wanted != worker["revision"] else "cyan" if worker["canary"] else ""
    )
    return Text(f"{shown}*" if worker["canary"] else shown, style=style)


def _fill(cache: Mapping[str, Any]) -> str:
    room = cache["capacity_bytes"]
    return f"{size(cache['used_bytes'])} {cache['used_bytes'] / room:.0%}" if room else "none"


def _hit_ratio(cache: Mapping[str, Any]) -> str:
    asked = cache["hits"] + cache["misses"]
    return f"{cache['hits'] / asked:.0%}" if asked else "none"


def _skew(behind: Mapping[str, int]) -> Text:
    return Text(f"-{max(behind.values())}", style="yellow") if behind else Text("0")


def _why_of_edge(edge: Mapping[str, Any]) -> str:
    if edge["state"] == "missing":
        return f"missing, last heard {age(edge['age_s'])} ago"
    if edge["twins"]:
        return "two processes report under this name; give each its own (edge.fleet.name)"
    if edge["reason"]:
        return str(edge["reason"])
    if edge["cache"]["degraded"]:
        return str(edge["cache"]["degraded"])
    if edge["behind"]:
        return "does not know the newest roll of " + _named(sorted(edge["behind"]))
    return "" if edge["trust"] == "fresh" else f"trust {edge['trust']}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _why_of_worker(worker: Mapping[str, Any]) -> str:
    if worker["apart"]:
        return str(worker["apart"])
    if worker["reason"]:
        return str(worker["reason"])
    if worker["target"] and worker["target"] != worker["revision"]:
        return f"to {worker['target'][:_SHORT]}, {size(worker['missing_bytes'])} to come"
    return "" if worker["trust"] == "fresh" else f"trust {worker['trust']}"
