"""The launcher: all tiers on this machine, the same programs that an image would run.

``async with Local(folder) as local: await local.up()`` starts origin, cloud server, edge and worker
in that order, with the demo models published, and stops them in the opposite order. What the first
start makes (keys, tokens, an API key, published models) every later start finds again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import site
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from infra.child import Child, ChildConfig, Program, Report
from infra.edge_admin import TierAdmin
from infra.errors import ChildError
from infra.local_config import (
    CLOUD_MODEL,
    LOCAL_MODEL,
    Ports,
    Urls,
    cloud_tables,
    render,
    tier_tables,
)
from infra.ports import HeldPort
from infra.state import Ready, StateDir, ensure_secret, read_secret, write_private, write_ready
from wire.errors import ConfigError, UnauthorizedError
from wire.files import write_atomically
from wire.paths import DEFAULT_CHANNEL
from wire.pull_tokens import PullTokens

if TYPE_CHECKING:
    from origin.publish import Published

POLICIES = Path(__file__).with_name("local_policies.toml")
"""What the policy file of a new state directory says."""
Tier = Literal["origin", "cloud", "edge", "worker"]
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
_REST: tuple[Tier, ...] = ("cloud", "edge", "worker")
_MODULES: dict[Tier, str] = {
    "origin": "origin",
    "cloud": "gpu_worker",
    "edge": "edge_tier",
    "worker": "gpu_worker",
}


class Local:
    """The whole system, as processes below one state directory.

    Args:
        state_dir: made where it is missing; one launcher at a time.
        ports: where to listen; 0 is any free port.
        environ: what the tiers inherit, ``os.environ`` by default. ``HEADWATER_CLOUD__X`` reaches
            the cloud server as ``HEADWATER_WORKER__X``, and only that one does.
        report: told in one line of deaths and restarts.
    """

    def __init__(
        self,
        state_dir: Path,
        ports: Ports | None = None,
        *,
        config: ChildConfig | None = None,
        environ: Mapping[str, str] | None = None,
        report: Report = lambda _: None,
    ) -> None:
        self.state = StateDir(state_dir.absolute())
        self.urls = Urls()
        self.new_api_key = ""
        """The key that this start made; empty where an earlier one did."""
        self._ports = ports or Ports()
        self._config = config or ChildConfig()
        self._environ = dict(os.environ if environ is None else environ)
        self._report = report
        self._children: dict[Tier, Child] = {}
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
            self._hold_edge_port()
            await prepare(self.state)
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
        for tier in _REST:
            step(tier)
            await self.start(tier)
        for tier in _REST:
            step(f"{tier} to be ready")
            await self.ready(tier)
        await self.joined()
        return self.announce(ready_file)

    async def start(self, tier: Tier) -> str:
        """Start one tier and wait until it listens. Returns its URL. Raises ``ChildError``."""
        self._write_config()
        child = Child(self._program(tier), self._lifeline, config=self._config, report=self._report)
        self._children[tier] = child
        self.urls = self.urls.knowing(tier, await child.start())
        return child.url

    async def ready(self, tier: Tier) -> None:
        """Wait until a started tier is ready. Raises ``ChildError``."""
        await self._children[tier].ready()

    async def joined(self) -> None:
        """Wait until the edge knows the worker as ready, so that prompts go there.

        Raises:
            ChildError: not in time.
        """
        deadline = time.monotonic() + self._config.ready_timeout_s
        while not await asyncio.to_thread(self._knows_worker):
            if time.monotonic() > deadline:
                raise ChildError("the edge hears nothing from the worker; see both logs")
            await asyncio.sleep(self._config.poll_s)

    def child(self, tier: Tier) -> Child:
        """A tier that was started."""
        return self._children[tier]

    def children(self) -> list[Child]:
        """Every tier that was started, in order."""
        return list(self._children.values())

    def _knows_worker(self) -> bool:
        with TierAdmin(self.urls.edge, self.admin_token) as edge:
            workers = edge.status()["workers"]
        return any(w["url"] == self.urls.worker and w["state"] == "ready" for w in workers)

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

    def _program(self, tier: Tier) -> Program:
        config = self.state.cloud_config_file if tier == "cloud" else self.state.config_file
        return Program(
            name=tier,
            argv=(sys.executable, "-m", _MODULES[tier], "--config", str(config)),
            environ=child_environment(self._environ, tier),
            folder=self.state.root,
            ready_file=self.state.run_file(tier),
            log=self.state.log(tier),
            port=getattr(self._ports, tier),
        )

    def _hold_edge_port(self) -> None:
        """The origin starts first, and its console is told where the edge will be."""
        if not self._ports.edge:
            held = HeldPort()
            self._stack.callback(held.close)
            self._ports = replace(self._ports, edge=held.number)

    def _write_config(self) -> None:
        tiers = render(tier_tables(self.state, self._ports, self.urls))
        write_private(self.state.config_file, tiers.encode())
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


async def prepare(state: StateDir) -> None:
    """Make keys, tokens and an empty signed repository, unless they are there.

    Keys and store are made aside and moved into place when both are whole, so a first start that
    was cut off can be repeated, and nothing that exists is ever overwritten.

    Raises:
        ConfigError: they cannot be made.
    """
    ensure_secret(state.admin_token, "hwadm-")
    ensure_secret(state.worker_token, "hwwrk-")
    ensure_secret(state.edge_report_token, "hwedg-")
    ensure_secret(state.cloud_token, "hwcld-")
    await asyncio.to_thread(_ensure_edge_pull_token, state)
    if not state.edge_policies.exists():
        write_atomically(state.edge_policies, POLICIES.read_bytes())
    staging, whole = state.root / ".initializing", state.root / ".initialized"
    if not whole.exists() and not state.keys.exists():
        await _initialize(state, staging)
        staging.rename(whole)
    if whole.exists():
        for made in sorted(whole.iterdir()):
            made.rename(state.root / made.name)
        whole.rmdir()


def _ensure_edge_pull_token(state: StateDir) -> None:
    """What the edge shows to the origin, which opens every model to it."""
    tokens = PullTokens.open(state.pull_tokens("origin"))
    with contextlib.suppress(ConfigError):
        if tokens.reader(read_secret(state.edge_pull_token)) is not None:
            return
    _, token = tokens.mint(("*",), note="the edge on this machine")
    write_private(state.edge_pull_token, f"{token}\n".encode())


async def _initialize(state: StateDir, staging: Path) -> None:
    from origin.config import OriginConfig
    from origin.init import initialize

    await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    made = StateDir(staging)
    passphrase = ensure_secret(made.passphrase_file, "")
    config = OriginConfig(
        store=str(made.origin_store), keys_dir=made.keys, admin_token_file=state.admin_token
    )
    await initialize(config, passphrase)


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
    if root not in {str(Path(folder).resolve()) for folder in site.getsitepackages()}:
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
