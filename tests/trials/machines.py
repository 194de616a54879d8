"""``make try-machines``: the first boot of an edge and of a worker, by the real programs.

Two Debian 12 systems with cloud-init and systemd as their process 1 boot in systemd-nspawn with the
user data of ``python -m infra.cloud_init``, and nobody touches them. What it proves: they fetch the
release by HTTPS and check it, install themselves from the lock files, fetch their secrets, and
serve: two edge processes behind one port and behind Caddy's TLS, a worker that judged what fits,
pulled and loaded it. After a restart of both, everything is back by itself; a process that hangs is
ended by its watchdog and comes back. It does not prove what a cloud adds: its metadata service, a
kernel of its own, a GPU with its driver, certificates by ACME.

The machines share this host's network, so their ports must be free. Needs root, debootstrap (not
with ``--base``), systemd-nspawn, Debian's mirror and PyPI; CI has none of it and does not run this.
Where root or a program is missing it says so, and ends with status 0. Takes about five minutes and
4 GB in a temporary folder, which is removed (``TMPDIR`` moves it).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from tests.trials.machine_checks import Region
from tests.trials.machine_image import Seed, make_base, make_image, make_machine
from tests.trials.machine_origin import (
    DOMAIN,
    RELEASES,
    Origin,
    Release,
    archive,
    release_of,
    release_server,
    user_data,
    values_of,
)
from tests.trials.nspawn import Machine
from tests.trials.stepping import Steps, TrialError

PORTS = (80, 443, 2019, 7401, 7402, 7411, 7412)
"""What listens in the machines: Caddy with its own administration, the edge, the worker."""
_PROGRAMS = ("chroot", "git", "nsenter", "systemd-nspawn", "tar")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where a step failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.machines", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--base", type=Path, metavar="DIR", help="a minimal Debian 12 to copy")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args(arguments)
    notes = Console(stderr=True, highlight=False)
    programs = _PROGRAMS if options.base else (*_PROGRAMS, "debootstrap")
    if missing := lacks(os.geteuid(), shutil.which, programs):
        if options.json:
            print(json.dumps({"skipped": missing}))
        notes.print(f"skipped: {missing}", markup=False)
        return 0
    steps = Steps(tell=lambda text: notes.print(text, style="dim", markup=False))
    problem = ""
    # A trial that is told to end stops its machines first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        free(PORTS)
        with _folder(steps) as folder:
            _try(folder, options.base, steps)
    except TrialError as error:
        problem = str(error)
    if options.json:
        print(json.dumps(steps.as_json(problem), indent=1))
    else:
        Console(highlight=False).print(steps.as_table())
    if problem:
        notes.print(f"error: {problem}", markup=False, soft_wrap=True)
    return 1 if problem else 0


def lacks(
    user: int, which: Callable[[str], str | None], programs: Sequence[str] = _PROGRAMS
) -> str:
    """What this host lacks for the trial, in words; empty where it has everything."""
    if user != 0:
        return "machines are made and booted by root; run it with sudo"
    absent = [name for name in programs if which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def free(ports: Sequence[int]) -> None:
    """Raises TrialError where somebody has one of these ports, which the machines will want."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            # As servers do: connections of an earlier run that linger are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                taken.append(str(port))
    if taken:
        raise TrialError(f"taken on this host: port {', '.join(taken)}; `ss -ltnp` says by whom")


@contextlib.contextmanager
def _folder(steps: Steps) -> Iterator[Path]:
    """A folder that is removed, unless something is still mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="try-machines-"))
    try:
        yield folder
    finally:
        steps.tell(f"removing {folder} ...")
        if str(folder) in Path("/proc/self/mountinfo").read_text():
            steps.tell(f"{folder} stays: something is mounted in it")
        else:
            shutil.rmtree(folder)


def _try(folder: Path, base: Path | None, steps: Steps) -> None:
    """All steps. Raises TrialError at the first that fails, with the machines' last words."""
    with contextlib.ExitStack() as cleanup:
        port, gives, certificate = cleanup.enter_context(release_server(folder / "releases"))
        origin = Origin(folder / "origin")
        cleanup.callback(origin.stop)
        with steps.step("origin: keys, tokens, a model") as step:
            origin.start()
            step.seen = f"revision {origin.publish()[:12]}"
        with steps.step("release and enrolments by HTTPS") as step:
            content = archive()
            release = release_of(content, port)
            gives["/headwater-0.1.0.tar.gz"] = content
            gives |= {f"/{tier}.tar": origin.enrolment(tier) for tier in ("edge", "worker")}
            step.seen = f"{len(content) / 1e6:.1f} MB, sha256 {release.sha256[:12]}"
        image = folder / "image"
        with steps.step("Debian 12") as step:
            step.seen = make_base(image, base)
        with steps.step("what a cloud's image has") as step:
            step.seen = f"cloud-init {make_image(image, certificate)}"
        with steps.step("two machines") as step:
            edge = _machine(folder, image, "edge", origin.url, release)
            worker = _machine(folder, image, "worker", origin.url, release)
            step.seen = "user data as NoCloud's seed"
        cleanup.callback(edge.stop)
        cleanup.callback(worker.stop)
        try:
            Region(edge, worker, origin).check(steps)
        except TrialError as error:
            said = f"{edge.last_words()}\n{worker.last_words()}"
            raise TrialError(f"{error}\n{said}") from error


def _machine(folder: Path, image: Path, tier: str, origin_url: str, release: Release) -> Machine:
    """A machine of this tier that was never booted."""
    name = f"trial-{tier}"
    told = user_data(values_of(tier, name, origin_url, release), tier)
    make_machine(image, folder / name, Seed(name, told), (RELEASES, DOMAIN))
    return Machine(name, folder / name, folder / f"{name}.log")


if __name__ == "__main__":
    raise SystemExit(main())
