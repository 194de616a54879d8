"""A real S3 server (moto's) on loopback, in this process; objects are in its memory."""

from __future__ import annotations

import http.client
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from origin.stores.bucket import S3Config

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-never-shown",
    "AWS_REGION": "us-east-1",
}


@dataclass(frozen=True, slots=True)
class S3:
    """The server, and one bucket of it."""

    url: str
    bucket: str = "models"
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by method."""

    def location(self, prefix: str) -> str:
        """A folder of the bucket, as an origin is told of it."""
        return f"s3://{self.bucket}/{prefix}"

    @property
    def config(self) -> S3Config:
        """How an origin reaches it; short bounds, so that faults show soon."""
        return S3Config(endpoint_url=self.url, allow_http=True, retries=1, retry_timeout_s=20.0)

    @property
    def environ(self) -> dict[str, str]:
        """The same for a process of its own."""
        return {
            **CREDENTIALS,
            "HEADWATER_ORIGIN__S3__ENDPOINT_URL": self.url,
            "HEADWATER_ORIGIN__S3__ALLOW_HTTP": "true",
        }

    def requests(self, method: str) -> int:
        """How often it was asked so."""
        return self.asked[method]

    def fill(self, *keys: str) -> None:
        """Put small objects where they are kept."""
        from moto.s3.models import s3_backends

        for key in keys:
            s3_backends["123456789012"]["aws"].put_object(self.bucket, key, b"x")

    def keys(self, prefix: str) -> list[str]:
        """All keys below a prefix."""
        from moto.s3.models import s3_backends

        found = s3_backends["123456789012"]["aws"].buckets[self.bucket].keys
        return sorted(key for key in found if key.startswith(prefix))

    def object(self, key: str) -> bytes:
        """An object's bytes."""
        return bytes(self._key(key).value)

    def flip_bit(self, key: str) -> None:
        """Rot inside the server: its own checksum stays that of what was written."""
        held = self._key(key)
        data = bytearray(held.value)
        data[len(data) // 2] ^= 0x04
        held.value = bytes(data)

    def _key(self, key: str) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"].get_object(self.bucket, key)


@contextmanager
def s3_server() -> Iterator[S3]:
    """The server with an empty bucket. Skips the test where moto was installed without it."""
    pytest.importorskip("flask", reason="moto[server] is not installed")
    from moto.server import ThreadedMotoServer

    log = logging.getLogger("werkzeug")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _one_at_a_time(server)
        host, port = server.get_host_and_port()
        made = S3(f"http://{host}:{port}")
        count = _Counting(made.asked)
        log.addFilter(count)
        _request(made, "POST", "/moto-api/reset")
        _request(made, "PUT", f"/{made.bucket}")
        try:
            yield made
        finally:
            log.removeFilter(count)
    finally:
        server.stop()


class _Counting(logging.Filter):
    """Counts the server's access log, and keeps it from the screen."""

    def __init__(self, asked: Counter[str]) -> None:
        super().__init__()
        self._asked = asked

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            if f"{method} /" in line:
                self._asked[method] += 1
        return False


def _one_at_a_time(server: Any) -> None:
    """S3 judges a conditional write and makes it in one step; moto does so only if nobody else is
    served meanwhile."""
    held = server._server
    app, lock = held.app, threading.Lock()

    def serve(environ: Any, start_response: Any) -> Any:
        with lock:
            return app(environ, start_response)

    held.app = serve


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Into this process's environment, and nothing else of AWS's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def impatient(config: S3Config, **changes: Any) -> S3Config:
    """The same with other bounds."""
    return replace(config, **changes)


def _request(server: S3, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, f"{method} {path}: {answer.status}"
    finally:
        connection.close()
