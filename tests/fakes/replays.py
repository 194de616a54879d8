"""What ``ollama pull`` and llama.cpp's ``-hf`` send, request by request, and what they insist on.

Read in Ollama's ``server/`` (download, images, auth) and in llama.cpp's ``common/``. Every demand
of theirs is an ``assert`` here.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
PARTS = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; header names in lower case. ``url`` is what was asked for."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RefusedError(Exception):
    """The registry or hub refused. ``status`` says how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.url}: {answer.status} {answer.body[:300]!r}")
        self.status = answer.status
        self.answer = answer


def ask(method: str, url: str, headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; redirects are not followed."""
    parts = urlsplit(url)
    link = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        link.request(method, target, headers=headers or {})
        answer = link.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(url, answer.status, names, answer.read())
    finally:
        link.close()


class Ollama:
    """``ollama pull HOST/NAME:TAG``.

    Args:
        password: what the API's ``password`` field carries; sent as Basic, as Ollama does.
    """

    def __init__(self, endpoint: str, name: str, *, password: str = "") -> None:
        self._endpoint = endpoint
        self._name = name
        self._headers: dict[str, str] = {"User-Agent": "ollama/0.33.0 (amd64 linux) Go/go1.24.1"}
        if password:
            pair = base64.b64encode(f"pull:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        self.challenges: list[dict[str, str]] = []

    def pull(self, tag: str = "latest") -> tuple[dict[str, Any], dict[str, bytes]]:
        """The manifest, and every blob that it names, by digest. Raises ``RefusedError``."""
        manifest = self._manifest(tag)
        layers = [*manifest["layers"], manifest["config"]]
        return manifest, {layer["digest"]: self._blob(layer) for layer in layers}

    def _manifest(self, tag: str) -> dict[str, Any]:
        answer = self._ask("GET", f"manifests/{tag}", {"Accept": DOCKER})
        manifest: dict[str, Any] = answer.json
        assert manifest["schemaVersion"] == 2
        return manifest

    def _blob(self, layer: dict[str, Any]) -> bytes:
        path = f"blobs/{layer['digest']}"
        head = self._ask("HEAD", path)
        total = int(head.headers["content-length"])
        assert total == layer["size"]
        where = self._direct_url(path)
        step = max(1, -(-total // PARTS))
        data = b"".join(
            self._part(where, at, min(at + step, total)) for at in range(0, total, step)
        )
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
        return data

    def _direct_url(self, path: str) -> str:
        """Redirects to the same host are followed with the credential, as Go's client does."""
        answer = self._ask("GET", path)
        for _ in range(10):
            where = urljoin(answer.url, answer.headers["location"])
            assert urlsplit(where).hostname == urlsplit(self._endpoint).hostname
            if answer.status == 200:
                return where
            assert answer.status in {302, 307}
            answer = ask("GET", where, self._headers)
        raise AssertionError("too many redirects")

    def _part(self, url: str, start: int, end: int) -> bytes:
        answer = ask("GET", url, {"Range": f"bytes={start}-{end - 1}"})
        assert answer.status == 206, f"{url}: {answer.status} is not exactly 206"
        assert len(answer.body) == end - start
        return answer.body

    def _ask(self, method: str, path: str, extra: dict[str, str] | None = None) -> Answer:
        url = f"{self._endpoint}/v2/{self._name}/{path}"
        answer = ask(method, url, self._headers | (extra or {}))
        if answer.status == 401:
            self._authorize(answer.headers["www-authenticate"])
            answer = ask(method, url, self._headers | (extra or {}))
        if answer.status >= 400:
            raise RefusedError(answer)
        return answer

    def _authorize(self, challenge: str) -> None:
        assert challenge.startswith("Bearer ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        self.challenges.append(fields)
        # The realm's host must be the registry's, or the key's signature would be sent elsewhere.
        assert urlsplit(fields["realm"]).netloc == urlsplit(self._endpoint).netloc
        scopes = [("scope", scope) for scope in fields["scope"].split(" ")]
        query = urlencode([("service", fields["service"]), *scopes, ("ts", "1"), ("nonce", "bm9")])
        signature = {"Authorization": "c3NoLWVkMjU1MTkga2V5:c2lnbmF0dXJl"}
        answer = ask("GET", f"{fields['realm']}?{query}", signature)
        if answer.status >= 400:
            raise RefusedError(answer)
        self._headers["Authorization"] = f"Bearer {answer.json['token']}"


class LlamaCpp:
    """``llama-server -hf NAME:VARIANT``: the listing, then a file in two pieces, as if resumed."""

    def __init__(self, endpoint: str, name: str, *, token: str = "") -> None:
        self._endpoint = endpoint
        self._name = name
        self._headers = {"User-Agent": "llama-cpp", "Accept": "application/json"}
        if re.fullmatch(r"hf_[A-Za-z0-9]{34,253}", token):
            self._headers["Authorization"] = f"Bearer {token}"

    def commit(self) -> str:
        """The commit that ``main`` is at."""
        refs = self._json(f"/api/models/{self._name}/refs")
        commits = {branch["name"]: branch["targetCommit"] for branch in refs["branches"]}
        commit = str(commits["main"])
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        return commit

    def listing(self, commit: str) -> dict[str, str]:
        """Path → digest of every file."""
        entries = self._json(f"/api/models/{self._name}/tree/{commit}?recursive=true")
        files = [entry for entry in entries if entry["type"] == "file"]
        found = {entry["path"]: entry.get("lfs", {}).get("oid") or entry["oid"] for entry in files}
        assert all(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", oid) for oid in found.values())
        assert all(entry["size"] >= 0 for entry in files)
        return found

    def download(self, commit: str, path: str, *, cut: int) -> bytes:
        """A file: ``cut`` bytes, and the rest in a second request."""
        url = f"{self._endpoint}/{self._name}/resolve/{commit}/{path}"
        head = ask("HEAD", url, self._headers)
        while head.status in {301, 302, 307, 308}:
            head = ask("HEAD", urljoin(head.url, head.headers["location"]), self._headers)
        if not 200 <= head.status < 300:
            raise RefusedError(head)
        assert head.headers["etag"]
        assert head.headers["accept-ranges"] == "bytes"
        total = int(head.headers["content-length"])
        first = ask("GET", head.url, self._headers).body[:cut]
        rest = ask("GET", head.url, self._headers | {"Range": f"bytes={cut}-"})
        assert rest.status == 206
        data = first + rest.body
        assert len(data) == total
        return data

    def _json(self, path: str) -> Any:
        answer = ask("GET", self._endpoint + path, self._headers)
        if answer.status != 200:
            raise RefusedError(answer)
        assert "link" not in answer.headers, "llama.cpp reads one page"
        return answer.json
