"""Real nginx and real Varnish with the shipped configurations, on free ports and without rights."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.nginx import FOLDER as NGINX_FOLDER
from infra.varnish import FOLDER as VARNISH_FOLDER

SECRET = "2f0c9d6e61f44dc29c12d0e6f1f3a5b7"
START_S = 40.0


@dataclass(frozen=True, slots=True)
class Cdn:
    """A cache that runs."""

    style: str
    url: str
    folder: Path


def program(name: str) -> str:
    """The path of a program. Skips the test where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {PACKAGES[name]})")
    return found


PACKAGES = {
    "nginx": "nginx-light",
    "varnishd": "varnish",
    "varnishadm": "varnish",
    "node": "nodejs",
}


def nginx_files(folder: Path, upstream: str, port: int, *, hurry: bool = True) -> Path:
    """The shipped configuration with a site of its own; the main file.

    Args:
        hurry: what is kept for seconds or a minute is kept for one second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    conf = (NGINX_FOLDER / "headwater.conf").read_text()
    for told, count in (("proxy_cache_valid 200 4s;", 7), ("proxy_cache_valid 200 206 1m;", 1)):
        assert conf.count(told) == count
        if hurry:
            conf = conf.replace(told, re.sub(r"\S+;", "1s;", told))
    (folder / "headwater.conf").write_text(conf)
    site = (NGINX_FOLDER / "site.conf").read_text()
    assert "server 127.0.0.1:7400" in site
    assert '# "~^SECRET$"' in site
    site = site.replace("127.0.0.1:7400", urlsplit(upstream).netloc)
    site = site.replace("/var/cache/nginx/headwater", str(folder / "cache"))
    site = site.replace('# "~^SECRET$"', f'"~^{SECRET}$"')
    (folder / "site.conf").write_text(site)
    (folder / "listen.conf").write_text(f"listen 127.0.0.1:{port};\n")
    temps = "".join(
        f"    {kind}_temp_path {folder}/temp-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        "daemon off;\nworker_processes 1;\n"
        f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log notice;\n"
        + ("user root;\n" if _is_root() else "")
        + "events { worker_connections 512; }\n"
        "http {\n    access_log off;\n" + temps + f"    include {folder}/headwater.conf;\n}}\n"
    )
    return main


@contextmanager
def nginx(folder: Path, upstream: str, port: int, *, hurry: bool = True) -> Iterator[Cdn]:
    """nginx before an upstream."""
    main = nginx_files(folder, upstream, port, hurry=hurry)
    argv = [program("nginx"), "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(main)]
    with _running(argv, port, folder / "output.log"):
        yield Cdn("nginx", f"http://127.0.0.1:{port}", folder)


def varnish_files(folder: Path, upstream: str) -> Path:
    """The shipped VCL with a site of its own; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(VARNISH_FOLDER / "default.vcl", folder)
    host, _, port = urlsplit(upstream).netloc.partition(":")
    site = (VARNISH_FOLDER / "site.vcl").read_text()
    assert '.port = "7400"' in site
    assert '"replace-me"' in site
    # A busy machine may keep an upstream from answering its health check.
    assert ".timeout = 2s;" in site
    site = site.replace(".timeout = 2s;", ".timeout = 30s;")
    site = site.replace('"127.0.0.1";\n    .port = "7400"', f'"{host}";\n    .port = "{port}"')
    (folder / "site.vcl").write_text(site.replace("replace-me", SECRET))
    return folder / "default.vcl"


@contextmanager
def varnish(folder: Path, upstream: str, port: int, *, hurry: bool = True) -> Iterator[Cdn]:
    """Varnish before an upstream: as shipped, in a hurry or not. The folder's path must be short:
    it holds a socket."""
    vcl = varnish_files(folder, upstream)
    argv = [
        *(program("varnishd"), "-F", "-j", "none", "-n", str(folder / "work")),
        *("-a", f"127.0.0.1:{port}", "-f", str(vcl), "-p", f"vcl_path={folder}"),
        *("-p", "thread_pools=1", "-p", "thread_pool_min=20", "-s", "malloc,256m"),
        # A client of a busy machine takes its time between connecting and asking.
        *("-T", "none", "-p", "timeout_idle=30"),
    ]
    with _running(argv, port, folder / "output.log"):
        yield Cdn("varnish", f"http://127.0.0.1:{port}", folder)


@contextmanager
def _running(argv: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        while not _answers(port):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < end, f"{argv[0]} does not listen"
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def _is_root() -> bool:
    return os.geteuid() == 0
