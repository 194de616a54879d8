"""nginx and Varnish in front of an origin: bytes, seconds, requests; the EdgeWorker's CPU time."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from infra.edgeworker import FOLDER as EDGEWORKER
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.cdn import PACKAGES
from tests.fakes.cdn_rig import STREAM, Rig, running
from tests.fakes.fleet import eventually
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, chunk_of, make_revision
from wire.paths import channel_path, chunk_path

MIB = 1024**2
CLIENTS = 20
HARNESS = Path(__file__).parents[1] / "infra" / "edgeworker" / "harness.mjs"


def main(*, quick: bool = False) -> None:
    """Measure what is installed."""
    machine, rows = Machine(), list[Row]()
    for style, program in (("nginx", "nginx"), ("varnish", "varnishd")):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            print(f"{program} is not installed: {PACKAGES[program]}")
            continue
        rows += _cdn(style, rolls=3 if quick else 15)
    if shutil.which("node") is not None:
        rows += _edgeworker(rounds=1_000 if quick else 20_000)
    report("cdn", rows, machine)


def _cdn(style: str, rolls: int) -> list[Row]:
    with quick_folder() as folder, running(style, folder) as rig:
        rows = [_second_pull(rig), _roll(rig, rolls), _first_event(rig), _coalesced(rig)]
    with quick_folder() as folder, running(style, folder, told=False) as rig:
        rows.append(_roll(rig, 2 if rolls < 10 else 4, told=False))
    return [_named(style, row) for row in rows]


def _named(style: str, row: Row) -> Row:
    return replace(row, name=f"{style}: {row.name}")


def _revision(seed: int, model: str) -> Revision:
    parts = [chunk_of(100 * seed + number, 4 * MIB) for number in range(4)]
    return make_revision({"model.gguf": parts}, model=model)


def _second_pull(rig: Rig) -> Row:
    revision = _revision(1, "pulled")
    rig.publish(revision)
    rig.pull("pulled", rig.folder / "one")
    before = rig.served_bytes()
    rig.pull("pulled", rig.folder / "two")
    sent = rig.served_bytes() - before
    return Row(
        name=f"origin chunk bytes of the second pull of {revision.unique_bytes // MIB} MiB",
        unit="B",
        runs=[sent],
        target=0,
        higher_is_better=False,
    )


def _roll(rig: Rig, count: int, *, told: bool = True) -> Row:
    revisions = [rig.publish(_revision(seed, "rolled")) for seed in (2, 3)]
    path, took = channel_path("rolled", "stable"), []
    eventually(lambda: revisions[1].encode() in rig.get(path).body, 40)
    for number in range(count):
        goal = revisions[number % 2]
        if not told:
            # The worst case: the pointer was fetched just before.
            fetched = rig.watch.count(path)
            while rig.watch.count(path) == fetched:
                rig.get(path)
        started = time.monotonic()
        rig.roll("rolled", "stable", goal)
        eventually(lambda goal=goal: goal.encode() in rig.get(path).body, 40)  # type: ignore[misc]
        took.append(time.monotonic() - started)
    # Beside max-age: asking ten times a second, and the fetch itself.
    name = "seconds until a roll is seen, " + ("told by the hook" if told else "by max-age")
    return Row(name=name, unit="s", runs=took, target=1.0 if told else 5.25, higher_is_better=False)


def _first_event(rig: Rig) -> Row:
    def seconds(url: str) -> float:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), 10) as link:
            started = time.monotonic()
            head = f"POST {STREAM} HTTP/1.1\r\nHost: cdn\r\nContent-Length: 2\r\n\r\n{{}}"
            link.sendall(head.encode())
            seen = b""
            while b"data: 0\n" not in seen:
                seen += link.recv(65536)
            return time.monotonic() - started

    pairs = [(1e3 * seconds(rig.cdn.url), 1e3 * seconds(rig.url)) for _ in range(15)]
    return Row(
        name="first event of a stream that lasts 0.6 s",
        unit="ms",
        runs=[through for through, _ in pairs],
        peer="directly",
        peer_runs=[direct for _, direct in pairs],
        higher_is_better=False,
    )


def _coalesced(rig: Rig) -> Row:
    revision = _revision(4, "many")
    rig.publish(revision)
    rig.watch.delay_s = 0.1
    runs = []
    for name in revision.chunks:
        path = chunk_path(name)
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda _, path=path: rig.get(path), range(CLIENTS)))
        runs.append(float(rig.watch.count(path)))
    return Row(
        name=f"fetches for {CLIENTS} who miss at once",
        unit="requests",
        runs=runs,
        target=1,
        higher_is_better=False,
    )


def _edgeworker(rounds: int) -> list[Row]:
    from tests.infra.edgeworker.test_main import CASES

    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "main.mjs"
        shutil.copy(EDGEWORKER / "main.js", module)
        told = json.dumps({"module": str(module), "cases": list(CASES.values()), "rounds": rounds})
        argv = ["node", "--expose-gc", str(HARNESS)]
        ran = subprocess.run(argv, input=told, capture_output=True, text=True, check=True)
    timing = json.loads(ran.stdout)["timing"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
        for name in ("main.js", "bundle.json"):
            bundle.add(EDGEWORKER / name, arcname=name)
    each = [one["us"] for one in timing]
    return [
        Row(
            name="EdgeWorker: CPU of a request, median case",
            unit="us",
            runs=[statistics.median(each)],
            target=4_000,
            higher_is_better=False,
        ),
        Row(
            name="EdgeWorker: CPU of a request, worst case",
            unit="us",
            runs=[max(each)],
            target=4_000,
            higher_is_better=False,
        ),
        Row(
            name="EdgeWorker: memory of a request, worst case",
            unit="B",
            runs=[max(one["bytes"] for one in timing)],
            target=1.5 * MIB,
            higher_is_better=False,
        ),
        Row(name="EdgeWorker: bundle", unit="B", runs=[len(packed.getvalue())]),
    ]
