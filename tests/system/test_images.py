"""The images' own commands, run here: installed from the lock files, started as somebody without
rights, found well by their health checks, stopped by SIGTERM. A model goes through all three."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.demo_models import path as demo_file
from infra.ports import HeldPort
from tests.fakes.dockerfile import IMAGES, Built, image, python_for
from tests.fakes.fleet import eventually
from wire.http_client import BlockingClient

NOBODY = 10001
TOKENS = ("admin-token", "edge-report-token", "worker-token")
PORTS = {"origin": "7400", "edge": "7401", "worker": "7402"}
OF_THE_BASE = (
    "linux-vdso.", "ld-linux", "/lib64/ld-linux", "libc.", "libm.", "libpthread.", "libdl.",
    "librt.", "libutil.", "libgcc_s.", "libstdc++.", "libz.",
)  # fmt: skip
"""Libraries that a slim Debian has; its package manager needs them."""
OF_PACKAGES = {"libgomp1": "libgomp."}


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Built]]:
    """All images, below a folder that others may enter but not write."""
    if os.geteuid() != 0:
        pytest.skip("an image is installed as root, and run as another")
    python = python_for(NOBODY)
    if not python:
        pytest.skip("no Python of this version here may be run by a user without rights")
    root = Path(tempfile.mkdtemp(prefix="headwater-images-"))
    root.chmod(0o755)
    # Held until the end: installing takes so long that others would be given them meanwhile.
    held = [HeldPort() for _ in PORTS]
    ports = {name: str(one.number) for name, one in zip(PORTS.values(), held, strict=True)}
    made = {tier: Built(tier, root / tier, python, ports=ports) for tier in IMAGES}
    try:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(one.build) for one in made.values()]:
                try:
                    done.result()
                except AssertionError as error:
                    if "No matching distribution" in str(error) or "ConnectionError" in str(error):
                        pytest.skip(f"the package index is not to be had: {error}")
                    raise
        yield made
    finally:
        for one in held:
            one.close()
        shutil.rmtree(root)


def environment(built: Built, **more: str) -> dict[str, str]:
    """What the image sets, with this machine's ports; nothing of ours."""
    port = built.ports[PORTS[built.tier]]
    mine = f"HEADWATER_{built.tier.upper()}__"
    return {**built.environment, f"{mine}HOST": "127.0.0.1", f"{mine}PORT": port, **more}


def as_nobody(built: Built, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = command.split()
    return subprocess.run(
        built.command(words),
        cwd=built.here("/var/lib/headwater"),
        env=environment(built, **more),
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def secret(built: Built, name: str, text: str) -> None:
    """A secret as compose mounts it: one file, its owner's alone."""
    file = Path(built.here(f"/run/secrets/{name}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.chown(file, NOBODY, NOBODY)
    file.chmod(0o400)


@contextmanager
def running(built: Built, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image's CMD until the block ends; then SIGTERM, and a clean end is checked."""
    last = image(built.tier)[1][-1]
    with (built.root / "log").open("wb") as log:
        process = subprocess.Popen(
            built.command(last.last("CMD").command),
            cwd=built.here("/var/lib/headwater"),
            env=environment(built, **more),
            user=NOBODY,
            group=NOBODY,
            extra_groups=(),
            stdout=log,
            stderr=log,
        )
    try:
        check = " ".join(last.last("HEALTHCHECK").command)

        def settled() -> bool:
            return process.poll() is not None or as_nobody(built, check).returncode == 0

        try:
            eventually(settled, 60)
        except TimeoutError:
            pytest.fail(f"{built.tier} is not healthy: {(built.root / 'log').read_text()[-4000:]}")
        assert process.poll() is None, (built.root / "log").read_text()
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (built.root / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_an_image_has_every_library_that_its_wheels_need(images: dict[str, Built]) -> None:
    for built in images.values():
        wheels = sorted(Path(built.here("/opt/headwater")).rglob("*.so*"))
        told = subprocess.run(
            ["ldd", *wheels], capture_output=True, text=True, check=False, timeout=60
        ).stdout
        found = {line.strip() for line in told.splitlines() if line.startswith("\t")}
        outside = {line for line in found if str(built.root) not in line}
        installed = " ".join(one.value for one in image(built.tier)[1][-1].all("RUN"))
        known = (*OF_THE_BASE, *(so for package, so in OF_PACKAGES.items() if package in installed))
        assert len(outside) > 3
        assert [line for line in outside if not line.startswith(known)] == []


def test_an_image_works_from_its_lock_file_to_its_clean_end(images: dict[str, Built]) -> None:
    origin, edge, worker = (images[tier] for tier in IMAGES)
    for built in images.values():
        for name in TOKENS:
            secret(built, name, f"secret-{name}-of-the-tests")
    made = as_nobody(origin, "headwater origin init", HEADWATER_ROOT_PASSPHRASE="of the tests")
    assert made.returncode == 0, made.stdout + made.stderr
    minted = as_nobody(
        origin,
        "headwater tokens create --tier=origin --model=* --json "
        "--file=/var/lib/headwater/pull-tokens.json",
    )
    assert minted.returncode == 0, minted.stderr
    secret(edge, "origin-token", minted.stdout.split('"token":')[1].split('"')[1])
    urls = {tier: f"http://127.0.0.1:{built.ports[PORTS[tier]]}" for tier, built in images.items()}
    for built in (edge, worker):
        root = Path(built.here("/run/secrets/root.json"))
        shutil.copy2(origin.here("/var/lib/headwater/keys/root.json"), root)
        root.chmod(0o644)
    at_once = {f"HEADWATER_{tier.upper()}__DRAIN_DELAY_S": "0" for tier in IMAGES}
    with (
        running(origin, **at_once),
        running(edge, HEADWATER_EDGE__ORIGINS=f'["{urls["origin"]}"]', **at_once),
    ):
        shutil.copy2(demo_file("edge-small-r1"), origin.root / "model.gguf")
        published = as_nobody(
            origin,
            f"headwater publish {origin.root}/model.gguf --model=edge-small "
            "--publisher-key=/var/lib/headwater/keys/publisher.key "
            f"--token-file=/run/secrets/admin-token --origin={urls['origin']}",
        )
        assert published.returncode == 0, published.stdout + published.stderr
        edges = f'["{urls["edge"]}"]'
        beats = {"HEADWATER_WORKER__SOURCES": edges, "HEADWATER_WORKER__HEARTBEAT_TO": edges}
        with running(worker, **beats, **at_once):
            client = BlockingClient(urls["worker"], token="secret-worker-token-of-the-tests")
            body = b'{"messages":[{"role":"user","content":"What is the capital of France?"}]}'
            answer = client.send("POST", "/v1/chat/completions", body)
            client.close()
            assert b"Paris" in bytes(answer.body)


def test_an_image_holds_no_more_than_its_tier(images: dict[str, Built]) -> None:
    for tier, built in images.items():
        site = next(Path(built.here("/opt/headwater/lib")).glob("python*/site-packages"))
        names = {path.name for path in site.iterdir()}
        assert not {"pip", "pytest", "setuptools"} & names
        assert ("xllamacpp" in names) == (tier == "worker")
        assert not list(Path(built.here("/opt/headwater/app")).rglob("*.gguf"))


def test_nothing_of_an_image_belongs_to_who_runs_it(images: dict[str, Built]) -> None:
    for built in images.values():
        owners = {path.lstat().st_uid for path in Path(built.here("/opt/headwater")).rglob("*")}
        assert owners == {0}
        assert Path(built.here("/var/lib/headwater")).stat().st_uid == NOBODY
