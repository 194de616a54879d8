"""Runs pods as processes: their programs, variables, files and Secrets are those of the overlay.

What differs is that a mount is a folder below the pod's own, and that names are addresses of this
machine.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from tests.fakes.fleet import eventually
from tests.fakes.kubernetes import FROM_OUTSIDE, Object, Pod, environment, named, pod
from wire.errors import HeadwaterError
from wire.http_client import BlockingClient
from wire.paths import METRICS, READYZ

_START_S = 40.0


class Kubelet:
    """Pods below one folder.

    Args:
        objects: of an overlay.
        given: Secrets and ConfigMaps that were made beside it.
    """

    def __init__(self, folder: Path, objects: list[Object], given: list[Object]) -> None:
        self._folder = folder
        self._objects = objects
        self._given = {(o["kind"], o["metadata"]["name"]): o for o in given}
        self._names: dict[str, str] = {}
        """What stands in configuration → what it is here."""
        self.urls: dict[str, str] = {}

    def knows(self, name: str, url: str) -> None:
        """From now on a Service of this name leads there; looked up it is this machine."""
        port = url.rpartition(":")[2]
        for service in (s for s in self._objects if s["kind"] == "Service"):
            if service["metadata"]["name"].partition("-")[0] != name:
                continue
            named_url = (
                f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            )
            here = f"http://localhost:{port}" if service["spec"].get("clusterIP") else url
            self._names[named_url] = here

    @contextmanager
    def run(self, name: str) -> Iterator[str]:
        """A pod of this workload, from its init containers until SIGTERM; gives its URL."""
        found = pod(self._objects, name)
        home = self._folder / name
        self._mount(found, home)
        for container in found.spec.get("initContainers", []):
            script = self._here(found, container["command"][2], home)
            subprocess.run([sys.executable, "-c", script], check=True, timeout=40)
        ready = home / "ready.json"
        section = found.container["command"][2].removesuffix("_tier").removeprefix("gpu_")
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")},
            **self._variables(found, home),
            f"HEADWATER_{section.upper()}__READY_FILE": str(ready),
        }
        arguments = [self._here(found, a, home) for a in found.container["args"]]
        assert found.container["command"][:2] == ["python", "-m"]
        program = [sys.executable, *found.container["command"][1:], *arguments, "--port", "0"]
        with ExitStack() as stack:
            log = stack.enter_context((home / "log").open("wb"))
            cwd = self._here(found, found.container["workingDir"], home)
            process = subprocess.Popen(program, env=environ, cwd=cwd, stderr=log)
            stack.callback(_stop, process)
            eventually(lambda: ready.exists() or process.poll() is not None, _START_S)
            assert process.poll() is None, (home / "log").read_text()
            url = msgspec.json.decode(ready.read_bytes())["url"].replace("0.0.0.0", "127.0.0.1")
            self.urls[name] = url
            self.knows(name, url)
            yield url

    def _variables(self, found: Pod, home: Path) -> dict[str, str]:
        values = environment(self._objects, found)
        here = {k: v.replace(FROM_OUTSIDE, "pod-0") for k, v in values.items()}
        if "POD_IP" in here:
            # The port is any free one here, so the worker tells the one that it bound.
            here.pop("HEADWATER_WORKER__ADVERTISE_URL")
            here["HEADWATER_WORKER__HOST"] = "127.0.0.1"
        return {key: self._here(found, value, home) for key, value in here.items()}

    def _here(self, found: Pod, text: str, home: Path) -> str:
        """With the pod's paths and the cluster's names replaced by those of this machine."""
        mounts = [m["mountPath"] for c in found.containers for m in c["volumeMounts"]]
        for path in sorted(set(mounts), key=len, reverse=True):
            text = text.replace(path, str(home / "mounts" / path[1:].replace("/", "-")))
        for name, url in self._names.items():
            text = text.replace(name, url)
        return text

    def _mount(self, found: Pod, home: Path) -> None:
        for container in found.containers:
            for mount in container["volumeMounts"]:
                target = Path(self._here(found, mount["mountPath"], home))
                target.mkdir(parents=True, exist_ok=True)
                volume = found.volume(mount["name"]) or {}
                for name, data in self._files(volume).items():
                    text = (
                        data if isinstance(data, bytes) else self._here(found, data, home).encode()
                    )
                    file = target / name
                    if not file.exists():
                        file.write_bytes(text)
                        file.chmod(volume.get("secret", {}).get("defaultMode", 0o644))

    def _files(self, volume: Object) -> Mapping[str, str | bytes]:
        if "secret" in volume:
            data = self._given["Secret", volume["secret"]["secretName"]]["data"]
            return {name: base64.b64decode(value) for name, value in data.items()}
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            found = self._given.get(("ConfigMap", name))
            data = (found or named(self._objects, "ConfigMap", name))["data"]
            return dict(data)
        return {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(40) == 0
    finally:
        process.kill()


def is_ready(url: str) -> bool:
    """What the readiness probe would find."""
    client = BlockingClient(url)
    try:
        return client.get(READYZ, limit_bytes=4_096).status == 200
    except HeadwaterError:
        return False
    finally:
        client.close()


def metrics_of(url: str) -> str:
    """What Prometheus would scrape."""
    client = BlockingClient(url)
    try:
        return bytes(client.get(METRICS, limit_bytes=1 << 22).body).decode()
    finally:
        client.close()
