"""The fleet over HTTP: edges report under a token of their own, operators ask and command.

The edges' token opens this one path and nothing else. Reports and answers are small JSON bodies;
what a report may be is in the types of ``wire.fleet``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from origin.boots import BootDesk
from origin.consistency import consistency
from origin.fleet import FleetView
from origin.fleet_status import describe_fleet
from origin.orders import CommandRequest, Orders
from wire.errors import ForbiddenError, NotFoundError, RequestInvalidError
from wire.fleet import MAX_REPORT_BYTES, EdgeAnswer, decode_edge_report
from wire.http_bodies import read_body, read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, DEFAULT_CHANNEL, EDGE_REPORT, channel_name, model_name
from wire.trust import TrustView

_MAX_COMMAND_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRoutes:
    """Reports of edges, and the fleet for administrators."""

    view: FleetView
    orders: Orders
    boots: BootDesk
    trust: Callable[[], TrustView]
    token: str
    """The administrator's."""
    edge_token: str | None
    """The edges'; None: this origin takes no reports."""
    clock: Callable[[], float] = time.time
    on_report: Callable[[], None] = lambda: None
    """Told after every report."""

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_post(EDGE_REPORT, self.report)
        router.add_get(f"{ADMIN}/fleet", self.show)
        router.add_get(f"{ADMIN}/fleet/consistency", self.consistency)
        router.add_post(f"{ADMIN}/fleet/commands", self.command)
        router.add_get(f"{ADMIN}/fleet/commands/{{id}}", self.show_command)
        router.add_delete(f"{ADMIN}/fleet/nodes/{{name}}", self.forget)

    async def report(self, request: web.Request) -> web.Response:
        """An edge tells how it is, and hears what it shall do."""
        if self.edge_token is None:
            raise ForbiddenError(
                "this origin takes no reports of edges; give it origin.edge_token_file"
            )
        require_token(request, self.edge_token)
        body = await read_body(request, MAX_REPORT_BYTES)
        try:
            report = decode_edge_report(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RequestInvalidError(f"report: {error}") from error
        self.view.report(report)
        self.orders.heard(report)
        self.boots.heard(report)
        self.on_report()
        answer = EdgeAnswer(
            commands=self.orders.for_edge(report.edge),
            preheat=self.view.to_preheat(),
            boots=self.boots.wanted(report.edge),
        )
        return json_answer(answer)

    async def show(self, request: web.Request) -> web.Response:
        """Every edge and worker, every channel, every command."""
        require_token(request, self.token)
        # In a thread: of thousands of workers it takes tens of milliseconds.
        shown = await asyncio.to_thread(
            describe_fleet,
            self.view.edges(),
            self.view.workers(),
            self.trust().pointers(),
            self.orders.all(),
            now=self.clock(),
        )
        return json_answer({**shown, "takes_reports": self.edge_token is not None})

    async def consistency(self, request: web.Request) -> web.Response:
        """Whether everybody serves what a channel names: ``?model=...&channel=...``."""
        require_token(request, self.token)
        model = model_name(request.query.get("model", ""))
        channel = channel_name(request.query.get("channel", DEFAULT_CHANNEL))
        pointer = self.trust().pointer(model, channel)
        return json_answer(consistency(pointer, self.view.edges(), self.view.workers()))

    async def command(self, request: web.Request) -> web.Response:
        """Have a node do something; answers at once with the order, which can be asked for."""
        require_token(request, self.token)
        return json_answer(
            self.orders.give(await read_json(request, CommandRequest, _MAX_COMMAND_BYTES))
        )

    async def show_command(self, request: web.Request) -> web.Response:
        """What became of a command."""
        require_token(request, self.token)
        return json_answer(self.orders.order(request.match_info["id"]))

    async def forget(self, request: web.Request) -> web.Response:
        """Miss a node no longer that will not come back."""
        require_token(request, self.token)
        name = request.match_info["name"]
        if not self.view.forget(name):
            raise NotFoundError(f"no node {name[:128]!r} is missing here; one that lives stays")
        return json_answer({"forgotten": name})
