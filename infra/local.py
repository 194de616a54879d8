"""The launcher: all tiers on this machine, the same programs that an image would run.

``async with Local(folder) as local: await local.up()`` starts origin, cloud server, edge and worker
in that order, with the demo models published, and stops them in the opposite order. What the first
start makes (keys, tokens, an API key, published models) every later start finds again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from site import getsitepackages
from types import TracebackType
from typing import TYPE_CHECKING

from infra.child import Child, ChildConfig, Program, Report
from infra.edge_admin import TierAdmin
from infra.errors import ChildError
from infra.fleet_admin import FleetAdmin
from infra.local_config import (
    CLOUD_MODEL,
    LOCAL_MODEL,
    Urls,
    cloud_tables,
    local_url,
    origin_tables,
    render,
    site_tables,
)
from infra.local_setup import prepare, prepare_site
from infra.local_sites import MODULES, Node, Ports, Site, Tier, nodes_of, sites_of
from infra.ports import HeldPort
from infra.state import (
    Ready,
    ReadyRegion,
    StateDir,
    read_secret,
    write_private,
    write_ready,
)
from wire.errors import ConfigError, UnauthorizedError
from wire.paths import DEFAULT_CHANNEL

if TYPE_CHECKING:
    from origin.publish import Published

PublishProgress = Callable[[str, str, int, int], None]
"""Told of the model, the step, and what is done and the total in bytes."""
DEMO_FILES = {LOCAL_MODEL: "edge-small-r1", CLOUD_MODEL: "cloud-large"}
SECRET_NAMES = frozenset(
    {
        "HEADWATER_API_KEY",
        "HEADWATER_ADMIN_TOKEN",
        "HEADWATER_PULL_TOKEN",
        "HEADWATER_ROOT_PASSPHRASE",
    }
)
"""Environment variables of the command that no tier has any business with."""


class Local:
    """The whole system, as processes below one state directory.

    Args:
        state_dir: made where it is missing; one launcher at a time.
        ports: where to listen; 0 is any free port.
        regions: an edge and a worker for each; where there are none, one edge and one worker.
        environ: what the tiers inherit, ``os.environ`` by default. ``HEADWATER_CLOUD__X`` reaches
            the cloud server as ``HEADWATER_WORKER__X``, and only that one does.
        report: told in one line of deaths and restarts.
    """

    def __init__(
        self,
        state_dir: Path,
        ports: Ports | None = None,
        *,
        regions: tuple[str, ...] = (),
        config: ChildConfig | None = None,
        environ: Mapping[str, str] | None = None,
        report: Report = lambda _: None,
    ) -> None:
        self.state = StateDir(state_dir.absolute())
        self.urls = Urls()
        """Of the first site."""
        self.new_api_key = ""
        """The key that this start made; empty where an earlier one did."""
        self._ports = ports or Ports()
        self._sites = sites_of(self.state, self._ports, regions)
        self._nodes = nodes_of(self.state, self._ports, self._sites)
        self._answers: dict[str, str] = {}
        """The URLs of what was started, by node."""
        self._config = config or ChildConfig()
        self._environ = dict(os.environ if environ is None else environ)
        self._report = report
        self._children: dict[str, Child] = {}
        self._stack = contextlib.ExitStack()
        self._lifeline = -1
        self._ready_files: set[Path] = set()

    async def __aenter__(self) -> Local:
        self.state.make()
        try:
            self._stack.enter_context(self.state.locked())
            self.state.ready_file.unlink(missing_ok=True)
            self._lifeline, writer = os.pipe()
            self._stack.callback(os.close, self._lifeline)
            self._stack.callback(os.close, writer)
            self._hold_edge_ports()
            await prepare(self.state)
            for site in self._sites:
                await asyncio.to_thread(prepare_site, site)
            self._ensure_api_key()
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for path in self._ready_files:
                path.unlink(missing_ok=True)
            for child in reversed(self._children.values()):
                await child.stop()
        finally:
            self._stack.close()

    async def up(
        self,
        *,
        ready_file: Path | None = None,
        progress: PublishProgress = lambda *_: None,
        step: Report = lambda _: None,
    ) -> Ready:
        """Start everything, in order, and say so in ``ready.json``.

        Args:
            ready_file: gets the same content.
            step: told what is being waited for.

        Raises:
            ChildError: a tier did not come up; says which, with the tail of its log.
        """
        if ready_file is not None:
            await asyncio.to_thread(ready_file.unlink, missing_ok=True)
        step("origin")
        await self.start("origin")
        await self.ready("origin")
        step("demo models")
        await self.publish_demo(progress=progress)
        rest = [name for name in self._nodes if name != "origin"]
        for name in rest:
            step(name)
            await self.start(name)
        for name in rest:
            step(f"{name} to be ready")
            await self.ready(name)
        await self.joined()
        return self.announce(ready_file)

    async def start(self, name: str) -> str:
        """Start a node (a tier, or a region's: ``edge-eu-west``) and wait until it listens.

        Returns:
            Its URL.

        Raises:
            ChildError: it did not come up; with the tail of its log.
        """
        self._write_config()
        node = self._nodes[name]
        child = Child(self._program(node), self._lifeline, config=self._config, report=self._report)
        self._children[name] = child
        self._answers[name] = await child.start()
        first = self._sites[0]
        if name in {"origin", "cloud", first.node("edge"), first.node("worker")}:
            self.urls = self.urls.knowing(node.tier, child.url)
        return child.url

    async def ready(self, name: str) -> None:
        """Wait until a started node is ready. Raises ``ChildError``."""
        await self._children[name].ready()

    async def joined(self) -> None:
        """Wait until each edge knows its worker as ready, so that prompts go there; and with
        regions, until the origin knows all of them as well.

        Raises:
            ChildError: not in time.
        """
        deadline = time.monotonic() + self._config.ready_timeout_s
        for site in self._sites:
            problem = f"the {site.node('edge')} hears nothing from its worker; see both logs"
            await self._until(partial(self._knows_worker, site), deadline, problem)
        if self._sites[0].region:
            problem = "a region is not well as the origin sees it; see `headwater fleet`"
            await self._until(self._is_well, deadline, problem)

    async def _until(self, true: Callable[[], bool], deadline: float, problem: str) -> None:
        while not await asyncio.to_thread(true):
            if time.monotonic() > deadline:
                raise ChildError(problem)
            await asyncio.sleep(self._config.poll_s)

    def child(self, name: str) -> Child:
        """A node that was started."""
        return self._children[name]

    def children(self) -> list[Child]:
        """Every node that was started, in order."""
        return list(self._children.values())

    def urls_of(self, site: Site) -> Urls:
        """Where the tiers of a site answer, as far as it is known."""
        if site is self._sites[0]:
            return self.urls
        own = {tier: self._answers.get(site.node(tier), "") for tier in ("edge", "worker")}
        return replace(self.urls, **own)

    def _knows_worker(self, site: Site) -> bool:
        urls = self.urls_of(site)
        with TierAdmin(urls.edge, self.admin_token) as edge:
            workers = edge.status()["workers"]
        return any(w["url"] == urls.worker and w["state"] == "ready" for w in workers)

    def _is_well(self) -> bool:
        with FleetAdmin(self.urls.origin, self.admin_token) as origin:
            fleet = origin.fleet()
        return bool(fleet["healthy"]) and len(fleet["edges"]) == len(self._sites)

    def announce(self, ready_file: Path | None = None) -> Ready:
        """Write ``ready.json`` (and ``ready_file``): everything answers."""
        self._write_config()
        ready = Ready(
            origin=self.urls.origin,
            edge=self.urls.edge,
            worker=self.urls.worker,
            cloud=self.urls.cloud,
            api_key=self.api_key,
            admin_token=self.admin_token,
            state_dir=str(self.state.root),
            regions=tuple(self._ready_region(site) for site in self._sites if site.region),
        )
        for path in dict.fromkeys((self.state.ready_file, *([ready_file] if ready_file else []))):
            self._ready_files.add(path)
            write_ready(path, ready)
        return ready

    @property
    def api_key(self) -> str:
        """The API key of this state directory."""
        return read_secret(self.state.api_key)

    @property
    def admin_token(self) -> str:
        """What opens the administrative paths of origin and edge."""
        return read_secret(self.state.admin_token)

    async def publish_demo(self, *, progress: PublishProgress = lambda *_: None) -> list[Published]:
        """Publish the demo models that the origin does not offer yet."""
        return await asyncio.to_thread(_publish_demo, self, progress)

    def _ready_region(self, site: Site) -> ReadyRegion:
        urls = self.urls_of(site)
        return ReadyRegion(name=site.region, edge=urls.edge, worker=urls.worker)

    def _program(self, node: Node) -> Program:
        return Program(
            name=node.name,
            argv=(sys.executable, "-m", MODULES[node.tier], "--config", str(node.config)),
            environ=child_environment(self._environ, node.tier),
            folder=self.state.root,
            ready_file=node.run_file,
            log=node.log,
            port=node.port,
        )

    def _hold_edge_ports(self) -> None:
        """The origin starts first, and its console is told where the edges will be."""
        sites = []
        for site in self._sites:
            if site.ports.edge:
                sites.append(site)
                continue
            held = HeldPort()
            self._stack.callback(held.close)
            sites.append(replace(site, ports=replace(site.ports, edge=held.number)))
        self._sites = tuple(sites)
        self._nodes = nodes_of(self.state, self._ports, self._sites)

    def _write_config(self) -> None:
        edges = [self.urls_of(s).edge or local_url(s.ports.edge) for s in self._sites]
        tables = origin_tables(self.state, self._ports, edges)
        for site in self._sites:
            own = site_tables(site, self.urls_of(site))
            if site.region:
                write_private(site.home.config_file, render(own).encode())
            else:
                tables |= own
        write_private(self.state.config_file, render(tables).encode())
        cloud = render(cloud_tables(self.state, self._ports, self.urls))
        write_private(self.state.cloud_config_file, cloud.encode())

    def _ensure_api_key(self) -> None:
        """The API key that was given out stays; another is made only where it opens nothing."""
        from edge_tier.gateway.auth import KeyStore

        store = KeyStore.open(self.state.edge_keys, self.state.edge_pepper)
        try:
            store.authenticate(f"Bearer {read_secret(self.state.api_key)}")
        except (ConfigError, UnauthorizedError):
            _, key = store.create(tenant="local", note="made by headwater up")
            write_private(self.state.api_key, f"{key}\n".encode())
            self.new_api_key = key


def child_environment(environ: Mapping[str, str], tier: Tier) -> dict[str, str]:
    """What a tier inherits: everything but the command's own secrets and other tiers' business."""
    kept = {name: value for name, value in environ.items() if name not in SECRET_NAMES}
    mine = {name: value for name, value in kept.items() if name.startswith("HEADWATER_CLOUD__")}
    for name in mine:
        del kept[name]
    if tier == "cloud":
        kept = {n: v for n, v in kept.items() if not n.startswith("HEADWATER_WORKER__")}
        kept |= {n.replace("_CLOUD__", "_WORKER__", 1): v for n, v in mine.items()}
    # The working directory is no place to import from: a folder `origin` there would win.
    kept["PYTHONSAFEPATH"] = "1"
    root = str(Path(__file__).resolve().parent.parent)
    if root not in {str(Path(folder).resolve()) for folder in getsitepackages()}:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    return kept


def _publish_demo(local: Local, progress: PublishProgress) -> list[Published]:
    from infra import demo_models
    from infra.golden import golden_maker
    from infra.publishing import open_publisher

    published = []
    with open_publisher(
        local.urls.origin, local.admin_token, local.state.publisher_key
    ) as publisher:
        channels = publisher.origin.status()["channels"]
        offered = {c["model"] for c in channels if c["channel"] == DEFAULT_CHANNEL}
        for model, file in DEMO_FILES.items():
            if model in offered:
                continue

            def tell(step: str, done: int, total: int, model: str = model) -> None:
                progress(model, step, done, total)

            path = demo_models.path(file)
            published.append(
                publisher.publish(
                    path, model, DEFAULT_CHANNEL, golden=golden_maker(), progress=tell
                )
            )
    return published
