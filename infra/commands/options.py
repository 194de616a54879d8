"""Options that many commands share, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wire.errors import ConfigError

DEFAULT_STATE_DIR = Path(".headwater")
_TIERS = "Where the tiers are"

StateDirOption = Annotated[
    Path,
    typer.Option(
        "--state-dir",
        envvar="HEADWATER_STATE_DIR",
        help="Folder of a local system; its ready.json tells URLs and tokens.",
        rich_help_panel=_TIERS,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")
]
OriginOption = Annotated[
    str | None,
    typer.Option(
        "--origin",
        metavar="URL",
        envvar="HEADWATER_ORIGIN_URL",
        help="The origin, instead of the state directory's.",
        rich_help_panel=_TIERS,
    ),
]
EdgeOption = Annotated[
    str | None,
    typer.Option(
        "--edge",
        metavar="URL|REGION",
        envvar="HEADWATER_EDGE_URL",
        help="The edge, instead of the state directory's; or which one of its regions.",
        rich_help_panel=_TIERS,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with the admin token (mode 600); or HEADWATER_ADMIN_TOKEN.",
        rich_help_panel=_TIERS,
    ),
]
PullTokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with a pull token (mode 600), for a private model; or HEADWATER_PULL_TOKEN.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="HEADWATER_API_KEY",
        show_envvar=True,
        help="API key; others on this machine see arguments, so prefer the variable.",
        rich_help_panel=_TIERS,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="HEADWATER_CONFIG",
        help="headwater.toml; the environment (HEADWATER_EDGE__PORT=...) stands over it.",
    ),
]


class TierName(StrEnum):
    """A tier with a configuration of its own."""

    ORIGIN = "origin"
    EDGE = "edge"
    WORKER = "worker"


class ScopeName(StrEnum):
    """What an API key may do."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    ADMIN = "admin"


class PrivacyName(StrEnum):
    """Where a prompt may go."""

    ANY = "any"
    LOCAL = "local"


class PersonalDataName(StrEnum):
    """What is done about personal data in prompts."""

    FLAG = "flag"
    MASK = "mask"
    BLOCK = "block"
    RESTORE = "restore"
    OFF = "off"


class PreferName(StrEnum):
    """Where ``auto`` should go."""

    LOCAL = "local"
    CLOUD = "cloud"


class PublishKind(StrEnum):
    """What is published."""

    MODEL = "model"
    STATIC = "static"


class TryOn(StrEnum):
    """On a share of what a canary is tried."""

    WORKERS = "workers"
    CALLERS = "callers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A tier and what opens it."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the tiers are: what the command line and the environment say, else ``ready.json``.

    A secret of the state directory is only ever sent to the state directory's own URLs.
    """

    state_dir: Path
    origin: str | None = None
    edge: str | None = None
    token_file: Path | None = None
    admin_token: str | None = None
    api_key: str | None = None

    def origin_admin(self) -> Access:
        """The origin with the admin token. Raises ``ConfigError`` where one is not known."""
        url, token = self._resolve("origin", self.origin, self._token(), "admin_token")
        return Access(url=url, secret=_need(token, url, "--token-file or HEADWATER_ADMIN_TOKEN"))

    def edge_admin(self) -> Access:
        """The edge with the admin token. Raises ``ConfigError`` where one is not known."""
        url, token = self._resolve("edge", self.edge, self._token(), "admin_token")
        return Access(url=url, secret=_need(token, url, "--token-file or HEADWATER_ADMIN_TOKEN"))

    def edge_client(self) -> Access:
        """The edge with an API key. Raises ``ConfigError`` where one is not known."""
        url, key = self._resolve("edge", self.edge, self.api_key, "api_key")
        return Access(url=url, secret=_need(key, url, "--api-key or HEADWATER_API_KEY"))

    def worker(self, given: str | None) -> Access:
        """A worker with its token; the state directory's where no URL is given.

        Raises:
            ConfigError: none is known, or nothing here opens it.
        """
        from infra.state import READY_NAME, StateDir, read_ready, read_secret

        ready = read_ready(self.state_dir / READY_NAME)
        url = given.rstrip("/") if given is not None else ready and ready.worker
        if not url:
            raise ConfigError(_nothing_runs("worker", self.state_dir, "--worker URL"))
        token = read_secret(self.token_file) if self.token_file is not None else None
        if token is None and ready is not None:
            state = StateDir(self.state_dir)
            own = {ready.worker: state.worker_token}
            own |= {r.worker: state.region(r.name).worker_token for r in ready.regions}
            token = read_secret(own[url]) if url in own else None
        return Access(url=url, secret=_need(token, url, "--token-file"))

    def reachable(self) -> dict[str, Access]:
        """Every tier that is known, with what opens it (empty where nothing does). Only the ones
        given on the command line where there are any.

        Raises:
            ConfigError: none is known.
        """
        from infra.state import READY_NAME, StateDir, read_ready, read_secret

        token = self._token() or ""
        given = {"origin": self.origin, "edge": self.edge}
        named = {tier: self._url(tier, url) for tier, url in given.items() if url is not None}
        if named:
            return {tier: Access(url=url, secret=token) for tier, url in named.items()}
        ready = read_ready(self.state_dir / READY_NAME)
        if ready is None:
            raise ConfigError(_nothing_runs("system", self.state_dir, "--origin and --edge"))
        state = StateDir(self.state_dir)
        admin = token or ready.admin_token
        sites = {f"-{r.name}": (r.edge, r.worker, state.region(r.name)) for r in ready.regions}
        sites = sites or {"": (ready.edge, ready.worker, state)}
        found = {"origin": Access(url=ready.origin, secret=admin)}
        for suffix, (edge, worker, home) in sites.items():
            found[f"edge{suffix}"] = Access(url=edge, secret=admin)
            found[f"worker{suffix}"] = Access(url=worker, secret=read_secret(home.worker_token))
        return found | {"cloud": Access(url=ready.cloud, secret=read_secret(state.cloud_token))}

    def publisher_key(self, given: Path | None) -> Path:
        """The publisher's key file."""
        from infra.state import StateDir

        return given or StateDir(self.state_dir).publisher_key

    def trust_root(self, given: Path | None) -> Path:
        """The provisioned root."""
        from infra.state import StateDir

        return given or StateDir(self.state_dir).trust_root

    def _token(self) -> str | None:
        from infra.state import read_secret

        return read_secret(self.token_file) if self.token_file is not None else self.admin_token

    def _resolve(
        self, tier: str, given: str | None, secret: str | None, name: str
    ) -> tuple[str, str | None]:
        from infra.state import READY_NAME, read_ready

        if given is not None:
            given = self._url(tier, given)
            if secret is not None:
                return given, secret
        ready = read_ready(self.state_dir / READY_NAME)
        known = getattr(ready, tier) if ready is not None else None
        url = given if given is not None else known
        if url is None:
            raise ConfigError(_nothing_runs(tier, self.state_dir, f"--{tier} URL"))
        if secret is None and ready is not None:
            own = {known} | {r.edge for r in ready.regions if tier == "edge"}
            secret = getattr(ready, name) if url in own else None
        return url, secret

    def _url(self, tier: str, given: str) -> str:
        """What was given, or the edge of the region whose name was given.

        Raises:
            ConfigError: it is neither a URL nor a region that runs here.
        """
        if tier != "edge" or "://" in given:
            return given.rstrip("/")
        from infra.state import READY_NAME, read_ready

        ready = read_ready(self.state_dir / READY_NAME)
        regions = {r.name: r.edge for r in ready.regions} if ready is not None else {}
        if given not in regions:
            known = ", ".join(regions) or "none"
            raise ConfigError(
                f"--edge {given}: neither a URL nor a region of {self.state_dir} (it has: {known})"
            )
        return regions[given]


def place(
    state_dir: Path,
    *,
    origin: str | None = None,
    edge: str | None = None,
    token_file: Path | None = None,
    api_key: str | None = None,
) -> Place:
    """What a command was told, with the admin token of the environment."""
    import os

    return Place(
        state_dir=state_dir,
        origin=origin,
        edge=edge,
        token_file=token_file,
        admin_token=os.environ.get("HEADWATER_ADMIN_TOKEN") or None,
        api_key=api_key,
    )


def pull_token(file: Path | None) -> str | None:
    """The pull token in a file, or else the environment's; None where there is neither."""
    import os

    from infra.state import read_secret

    return read_secret(file) if file is not None else os.environ.get("HEADWATER_PULL_TOKEN") or None


def _nothing_runs(what: str, state_dir: Path, option: str) -> str:
    return (
        f"no {what} is known: nothing runs in {state_dir}; start it with `headwater up`, or give "
        f"{option}"
    )


def _need(secret: str | None, url: str, how: str) -> str:
    if not secret:
        raise ConfigError(f"nothing here opens {url}; give {how}")
    return secret
