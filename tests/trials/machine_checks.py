"""What is looked at once an edge and a worker boot, as an operator would look."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from functools import partial

from tests.trials.machine_origin import DOMAIN, EDGE_PORTS, MODEL, Origin, create_key
from tests.trials.nspawn import Machine
from tests.trials.stepping import Steps, TrialError, wait_for

_FIRST_BOOT_S = 900.0
_SERVES_S = 180.0
_RETURNS_S = 120.0
_WATCHDOG_S = 120.0
"""Over WatchdogSec of the unit, and a start."""
_REQUESTS = 8
_SHARED, _WORKER_PORT = 7401, 7402
_CADDY_ROOT = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
_PID = ("systemctl", "show", "--property=MainPID", "--value")


@dataclass
class Region:
    """An edge's machine, a worker's, and the origin that they were told of."""

    edge: Machine
    worker: Machine
    origin: Origin

    def check(self, steps: Steps) -> None:
        """Boot both and see that they serve. Raises TrialError."""
        with steps.step("edge and worker boot") as step:
            self.edge.start()
            self.worker.start()
            step.seen = self.edge.told("systemctl", "--version").splitlines()[0]
        for machine in (self.edge, self.worker):
            with steps.step(f"{machine.name}: first boot") as step:
                step.seen = self._first_boot(machine)
        with steps.step("both edge processes are ready"):
            self._ready(self.edge, EDGE_PORTS, _SERVES_S)
        with steps.step("TLS by Caddy") as step:
            step.seen = self._tls()
        with steps.step("the worker judged what fits, serves") as step:
            self._ready(self.worker, (_WORKER_PORT,), _SERVES_S)
            step.seen = self._fit()
        with steps.step("headwater fleet") as step:
            wait_for("the fleet", self._fleet, _SERVES_S, lambda: self.alive)
            step.seen = "2 edges with 1 worker each"
        key = create_key(f"http://127.0.0.1:{_SHARED}", self.origin.admin_token)
        with steps.step(f"{_REQUESTS} requests by the shared port") as step:
            step.seen = ask_all(key, self.worker.name)
        self._restart(steps, key)
        self._watchdog(steps, key)

    @property
    def alive(self) -> bool:
        """Whether both machines run, and the origin."""
        return self.edge.alive and self.worker.alive and self.origin.alive

    def _restart(self, steps: Steps, key: str) -> None:
        with steps.step("both machines stop"):
            self.edge.stop()
            self.worker.stop()
        with steps.step("both are back by themselves") as step:
            self.edge.start()
            self.worker.start()
            self._ready(self.edge, EDGE_PORTS, _RETURNS_S)
            self._ready(self.worker, (_WORKER_PORT,), _RETURNS_S)
            wait_for("the fleet", self._fleet, _RETURNS_S, lambda: self.alive)
            step.seen = ask_all(key, self.worker.name)

    def _watchdog(self, steps: Steps, key: str) -> None:
        unit = "headwater-edge@1"
        with steps.step("an edge process hangs (SIGSTOP)") as step:
            before = self.edge.told(*_PID, unit)
            self.edge.told("kill", "-STOP", before)

            def another() -> str:
                now = self.edge.ask(*_PID, unit)[1]
                return "" if now not in {"0", before} else f"{unit} is still process {before}"

            wait_for("the watchdog", another, _WATCHDOG_S, lambda: self.edge.alive)
            self._ready(self.edge, EDGE_PORTS, _RETURNS_S)
            wait_for("the fleet", self._fleet, _RETURNS_S, lambda: self.alive)
            said = self.edge.told("journalctl", "-u", unit, "-o", "cat", "--no-pager")
            if "Watchdog timeout" not in said:
                raise TrialError(f"{unit} is another process, but not by the watchdog")
            step.seen = f"Watchdog timeout; then {ask_all(key, self.worker.name)}"

    def _first_boot(self, machine: Machine) -> str:
        """Until cloud-init has ended, well. Raises TrialError where it did not."""
        status, said = machine.ask("cloud-init", "status", "--wait", within_s=_FIRST_BOOT_S)
        last = said.splitlines()[-1] if said else "nothing"
        if status != 0 or last != "status: done":
            raise TrialError(f"{machine.name}: cloud-init says {last} (status {status})")
        version = machine.told("cloud-init", "--version").split()[-1]
        return f"cloud-init {version}: done"

    def _ready(self, machine: Machine, ports: tuple[int, ...], within_s: float) -> None:
        for port in ports:
            url = f"http://127.0.0.1:{port}/readyz"
            wait_for(url, partial(unready, url), within_s, lambda: machine.alive)

    def _tls(self) -> str:
        """Through Caddy, from the machine itself, which alone has its authority's certificate."""
        curl = ("curl", "-sS", "--cacert", _CADDY_ROOT, "-o", "/dev/null", "-w", "%{http_code}")

        def answers() -> str:
            _, said = self.edge.ask(*curl, f"https://{DOMAIN}/readyz")
            return "" if said == "200" else f"/readyz: {said}"

        wait_for("Caddy", answers, _RETURNS_S, lambda: self.edge.alive)
        _, metrics = self.edge.ask(*curl, f"https://{DOMAIN}/metrics")
        if metrics != "403":
            raise TrialError(f"Caddy: /metrics is open to everybody: {metrics}")
        return "/readyz 200, /metrics 403"

    def _fit(self) -> str:
        """What headwater-start printed before anything was pulled."""
        said = self.worker.told("journalctl", "-u", "headwater-start", "-o", "cat", "--no-pager")
        if not (line := verdict(said)):
            raise TrialError(f"headwater-start did not say what fits:\n{said[-1000:]}")
        return line

    def _fleet(self) -> str:
        return fleet_lacks(self.origin.fleet())


def verdict(said: str) -> str:
    """What ``headwater fit`` judged, in its own words; empty where it did not."""
    lines = [line.strip() for line in said.splitlines()]
    return next((line for line in reversed(lines) if line.startswith("boot would take")), "")


def fleet_lacks(found: dict[str, object]) -> str:
    """What the fleet lacks of two edges that have one worker each; empty where it is well."""
    edges = found.get("edges")
    if not isinstance(edges, list) or len(edges) != len(EDGE_PORTS):
        return f"{len(edges) if isinstance(edges, list) else 0} edges"
    if lonely := [edge["name"] for edge in edges if edge["workers"] != 1]:
        return f"without one worker: {', '.join(lonely)}"
    return "" if found.get("healthy") else "it is not healthy"


def unready(url: str) -> str:
    """Why it is not ready; empty where it is."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(300).decode(errors='replace')}"
    except OSError as error:
        return str(error)


def ask_all(key: str, worker: str) -> str:
    """Ask a few times at the shared port, by a connection each, and each process at its own.

    Raises:
        TrialError: one was not answered, or not by this worker.
    """
    ports = (*[_SHARED] * _REQUESTS, *EDGE_PORTS)
    counts = Counter(ask(key, port) for port in ports)
    if counts.keys() != {worker}:
        seen = ", ".join(f"{count} x {answer}" for answer, count in sorted(counts.items()))
        raise TrialError(f"of {len(ports)} requests: {seen}")
    return f"{_REQUESTS} of {_REQUESTS} answered, and each process"


def ask(key: str, port: int) -> str:
    """One prompt: the worker that answered, or what came instead."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 16,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = json.load(answer)["choices"][0]["message"]["content"]
            worker = answer.headers.get("x-headwater-worker", "nobody")
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(200).decode(errors='replace')}"
    except OSError as error:
        return str(error)
    return worker if content.strip() else "an empty answer"
