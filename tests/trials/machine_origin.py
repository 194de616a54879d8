"""What machines of a trial find outside: an origin with a model, a release by HTTPS, enrolments."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.tls_server import Asked, tls_server, whole
from tests.trials.machine_image import run
from tests.trials.stepping import TrialError, wait_for

ROOT = Path(__file__).resolve().parents[2]
RELEASES = "releases.test"
DOMAIN = "edge.localhost"
"""For such a name Caddy asks no authority: it makes the certificate itself."""
MODEL = "edge-small"
EDGE_PORTS = (7411, 7412)
_MODEL_FILE = ROOT / "infra/demo_models/edge-small-r1.gguf"
_ENROL = ROOT / "infra/cloud_init/enrol.sh"
_SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample trial"
_ENROLLED = {
    "edge": ("admin-token", "edge-report-token", "origin-token", "worker-token"),
    "worker": ("worker-token",),
}
"""Which tier has which secrets: the table of docs/how-to/deploy-services.md."""
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Release:
    """Where machines get the release, and what it must be."""

    base: str
    sha256: str

    @property
    def url(self) -> str:
        """The archive's."""
        return f"{self.base}/headwater-0.1.0.tar.gz"


class Origin:
    """An origin on this machine, with keys, tokens and a store of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin_token(self) -> Path:
        """The file of it."""
        return self.folder / "admin-token"

    def start(self) -> None:
        """Make its keys, tokens and configuration, and start it."""
        self.folder.mkdir(mode=0o700)
        for name in ("passphrase", "edge-report-token", "worker-token"):
            self._secret(name, secrets.token_hex(32))
        config = self.folder / "headwater.toml"
        config.write_text(origin_config(self.folder))
        headwater(
            "origin", "init", "--config", config, "--passphrase-file", self.folder / "passphrase"
        )
        tokens = self.folder / "pull-tokens.json"
        made = headwater(
            "tokens", "create", "--tier", "origin", "--file", tokens, "--model", "*", "--json"
        )
        self._secret("origin-token", json.loads(made)["token"])
        with (self.folder / "origin.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "origin", "--config", str(config), "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        wait_for("the origin starts", self._find_url, _START_S, lambda: self.alive)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """May be called twice."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def publish(self) -> str:
        """The demo's model. Returns its revision."""
        key = self.folder / "keys/publisher.key"
        said = headwater(
            "publish",
            _MODEL_FILE,
            "--model",
            MODEL,
            "--publisher-key",
            key,
            *self._access(),
            "--json",
        )
        return str(json.loads(said)["revision"])

    def fleet(self) -> dict[str, object]:
        """What it knows of edges and workers, well or not."""
        argv = [sys.executable, "-m", "infra.cli", "fleet", *self._access(), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60)
        try:
            found = json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise TrialError(f"headwater fleet: {done.stderr[-500:]}") from error
        return dict(found)

    def enrolment(self, tier: str) -> bytes:
        """A tier's archive of secrets, packed as an operator does."""
        folder = self.folder / f"enrol-{tier}"
        (folder / "credentials").mkdir(parents=True, mode=0o700)
        for name in _ENROLLED[tier]:
            (folder / "credentials" / name).write_bytes((self.folder / name).read_bytes())
        (folder / "root.json").write_bytes((self.folder / "keys/root.json").read_bytes())
        packed = self.folder / f"{tier}.tar"
        run("bash", str(_ENROL), "--pack", str(folder), str(packed))
        return packed.read_bytes()

    def _access(self) -> tuple[str, ...]:
        return ("--origin", self.url, "--token-file", str(self.admin_token))

    def _secret(self, name: str, text: str) -> None:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(f"{text}\n")

    def _find_url(self) -> str:
        try:
            self.url = json.loads((self.folder / "ready.json").read_text())["url"]
        except (OSError, ValueError):
            return f"it does not listen yet (log: {self.folder / 'origin.log'})"
        return ""


@contextmanager
def release_server(folder: Path) -> Iterator[tuple[int, dict[str, bytes], str]]:
    """An HTTPS server under the name of releases: its port, what it gives, its certificate."""
    gives: dict[str, bytes] = {}

    def answer(asked: Asked) -> Iterator[bytes]:
        found = gives.get(asked.path)
        yield whole(b"", status="404 Not Found") if found is None else whole(found)

    folder.mkdir(mode=0o700)
    with tls_server(folder, answer, RELEASES) as server:
        pem = (folder / f"{RELEASES}.pem").read_text()
        yield server.port, gives, pem


def archive() -> bytes:
    """The release of what is committed, as an operator makes it."""
    argv = ["git", "archive", "--format=tar.gz", "--prefix=headwater/", "HEAD"]
    return subprocess.run(argv, check=True, capture_output=True, cwd=ROOT).stdout


def release_of(content: bytes, port: int) -> Release:
    """How machines are told of it."""
    return Release(f"https://{RELEASES}:{port}", hashlib.sha256(content).hexdigest())


def user_data(values: dict[str, str], tier: str) -> str:
    """What a machine of this tier is told, as who does without Terraform makes it."""
    given = [word for pair in values.items() for word in ("--set", "=".join(pair))]
    return run(sys.executable, "-m", "infra.cloud_init", tier, *given, cwd=ROOT) + "\n"


def values_of(tier: str, name: str, origin_url: str, release: Release) -> dict[str, str]:
    """The values of a tier's template."""
    common = {
        "name": name,
        "ssh_keys": json.dumps([_SSH_KEY]),
        "release_url": release.url,
        "release_sha256": release.sha256,
        "enrolment_url": f"{release.base}/{tier}.tar",
    }
    edges = json.dumps([f"http://127.0.0.1:{port}" for port in EDGE_PORTS])
    own = {
        "edge": {"region": "eu-west", "domain": DOMAIN, "origin_url": origin_url},
        "worker": {
            "edge_urls": edges,
            "advertise_url": "http://127.0.0.1:7402",
            "model": MODEL,
        },
    }
    return common | own[tier]


def origin_config(folder: Path) -> str:
    """``headwater.toml`` of the origin."""
    values = {
        "host": "127.0.0.1",
        "store": f"{folder}/store",
        "keys_dir": f"{folder}/keys",
        "admin_token_file": f"{folder}/admin-token",
        "edge_token_file": f"{folder}/edge-report-token",
        "pull_tokens_file": f"{folder}/pull-tokens.json",
        "ready_file": f"{folder}/ready.json",
    }
    return "[origin]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def headwater(*arguments: object) -> str:
    """What ``headwater`` printed."""
    return run(sys.executable, "-m", "infra.cli", *map(str, arguments), cwd=ROOT)


def create_key(edge: str, admin_token: Path) -> str:
    """An API key of an edge."""
    access = ("--edge", edge, "--token-file", admin_token)
    return str(
        json.loads(headwater("keys", "create", *access, "--tenant", "trial", "--json"))["key"]
    )
