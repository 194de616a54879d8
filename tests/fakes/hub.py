"""A small model hub: the paths that huggingface_hub asks, honest unless a test says otherwise."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True)
class FakeHub:
    """One repository. What a test puts into ``listing``, ``info`` or ``sends`` is answered instead
    of the truth."""

    repository: str
    files: dict[str, bytes]
    token: str = ""
    """What opens it; empty: it is open."""
    info: dict[str, Any] = field(default_factory=dict)
    listing: list[Any] | None = None
    sends: dict[str, bytes] = field(default_factory=dict)
    """Other bytes than those listed."""
    breaks_at: dict[str, int] = field(default_factory=dict)
    """After so many bytes the connection ends, once."""
    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """``/api/models/{id}``."""
        siblings = [{"rfilename": path} for path in self.files]
        true = {"id": self.repository, "sha": COMMIT, "siblings": siblings, "tags": []}
        return true | self.info

    def listed(self) -> list[Any]:
        """``/tree``: weights as LFS, texts as plain files."""
        if self.listing is not None:
            return self.listing
        return [listed(path, content) for path, content in self.files.items()]

    def fetched(self) -> list[str]:
        """The files that were asked for with GET, in order."""
        return [path for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]


def listed(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A true entry of a listing."""
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith((".gguf", ".safetensors", ".bin")):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry | more


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[FakeHub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append((self.command, path, headers))
        if self.hub.token and headers.get("authorization") != f"Bearer {self.hub.token}":
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        api = f"/api/models/{self.hub.repository}"
        if path.startswith(f"{api}/tree/{COMMIT}"):
            return self._send(200, json.dumps(self.hub.listed()).encode())
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            return self._send(200, json.dumps(self.hub.described()).encode())
        if path.startswith("/api/"):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        return self._file(path.removeprefix(f"/{self.hub.repository}/resolve/{COMMIT}/"), headers)

    def _file(self, path: str, headers: dict[str, str]) -> None:
        if path not in self.hub.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(self.hub.files[path]).hexdigest()
        content = self.hub.sends.get(path, self.hub.files[path])
        told = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest}"',
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(self.hub.files[path])),
            "Accept-Ranges": "bytes",
        }
        start = 0
        if wanted := headers.get("range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            told["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.breaks_at.pop(path, None) if self.command == "GET" else None
        self._send(206 if start else 200, content[start:], told, cut=cut)
        return None

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def fake_hub(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve it on this machine."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="fake-hub")
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
