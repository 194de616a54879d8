"""The real llama.cpp, in a child process: what it tokenizes and renders is what counts.

``xllamacpp.Server`` starts its listener in the constructor and has no stop, so it lives and dies
with the child. Most of a start is llama.cpp's own, whatever the model: one child takes many.
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
import json, sys, xllamacpp
kept = []
for line in sys.stdin:
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx = json.loads(line)
    params.n_parallel, params.warmup, params.verbosity = 1, False, 0
    params.prefill_assistant = False
    try:
        kept.append(xllamacpp.Server(params))
    except Exception:
        print("refused", flush=True)
    else:
        print(kept[-1].listening_address, flush=True)
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


class LlamaChild:
    """A child that serves every model it is given, each on a free port of loopback."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def load(self, model: Path, *, n_ctx: int = 512) -> LlamaServer:
        """Serve ``model`` as long as this child lives. ``AssertionError``: it does not load."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps([str(model), n_ctx]) + "\n")
        self._child.stdin.flush()
        said = (line.strip() for line in self._child.stdout)
        answer = next((line for line in said if line.startswith(("http", "refused"))), "")
        if not answer:  # it took the child down with it
            self.close()
        assert answer.startswith("http"), f"llama.cpp did not load {model}"
        return LlamaServer(answer)

    def close(self) -> None:
        """Stop all; a later :meth:`load` begins anew."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


@contextmanager
def llama_child() -> Iterator[LlamaChild]:
    """For all models of a block."""
    child = LlamaChild()
    try:
        yield child
    finally:
        child.close()


@contextmanager
def llama_server(model: Path, *, n_ctx: int = 512) -> Iterator[LlamaServer]:
    """One model alone in its child."""
    with llama_child() as child:
        yield child.load(model, n_ctx=n_ctx)
