"""The real llama.cpp, in a child process: what it tokenizes and renders is what counts.

``xllamacpp.Server`` starts its listener in the constructor and has no stop, so it lives and dies
with the child.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHILD = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.warmup, params.verbosity = int(sys.argv[2]), 1, False, 0
params.prefill_assistant = False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class LlamaServer:
    """Speaks to a running llama.cpp."""

    def __init__(self, url: str) -> None:
        self.url = url

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        tokens: list[int] = self.post("/tokenize", body)["tokens"]
        return tokens

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        prompt: str = self.post("/apply-template", {"messages": list(messages)})["prompt"]
        return prompt

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


@contextmanager
def llama_server(model: Path, *, n_ctx: int = 512) -> Iterator[LlamaServer]:
    """llama.cpp serving ``model`` on a free port of loopback."""
    arguments = [sys.executable, "-c", _CHILD, str(model), str(n_ctx)]
    child = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert child.stdout is not None
        url = next((line for line in child.stdout if line.startswith(b"http")), b"").decode()
        assert url, f"llama.cpp did not load {model}"
        yield LlamaServer(url.strip())
    finally:
        child.kill()
        child.communicate()
