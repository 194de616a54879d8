"""A demo model running in llama.cpp, in a process of its own, for measurements and tests.

`xllamacpp.Server` starts a listener in its constructor and has no stop, so this file is also the
script of that throwaway process: it prints the listener's address and lives until its standard
input closes.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """Text of an answer, the log-probability (nats) of each of its tokens, why it ended, and the
    tokens themselves as text."""

    text: str
    logprobs: tuple[float, ...]
    finish_reason: str
    tokens: tuple[str, ...] = ()

    def least(self, first: int | None = None) -> float:
        """The smallest log-probability, of the `first` tokens only where given."""
        return min(self.logprobs[:first], default=0.0)


class RunningModel:
    """A context in which one GGUF file answers; the process ends with it."""

    def __init__(self, file: Path, context: int = 2048, slots: int = 1) -> None:
        self._command = [sys.executable, __file__, str(file), str(context * slots), str(slots)]
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> RunningModel:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("address "):
                self.address = line.split()[1]
                return self
        raise RuntimeError(f"the engine ended with status {self._process.wait()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to `body` sent to `path`."""
        host = urllib.parse.urlsplit(self.address)
        assert host.hostname is not None
        link = http.client.HTTPConnection(host.hostname, host.port, timeout=TIMEOUT_SECONDS)
        try:
            link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            found: dict[str, Any] = json.load(link.getresponse())
        finally:
            link.close()
        return found

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int = 600) -> Answer:
        """The greedy answer to a conversation."""
        found = self.post(
            "/v1/chat/completions",
            {
                "messages": list(messages),
                "max_tokens": max_tokens,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": 1,
            },
        )
        choice = found["choices"][0]
        content = choice["logprobs"]["content"]
        logprobs = tuple(float(token["logprob"]) for token in content)
        tokens = tuple(str(token["token"]) for token in content)
        return Answer(choice["message"]["content"] or "", logprobs, choice["finish_reason"], tokens)

    def ask(self, question: str, system: str | None = None, max_tokens: int = 600) -> Answer:
        """The greedy answer to one question."""
        messages = [{"role": "system", "content": system}] if system is not None else []
        return self.chat([*messages, {"role": "user", "content": question}], max_tokens)


def serve(file: str, context: int, slots: int) -> None:
    """Serves `file` on a free loopback port until standard input closes."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.port = 0
    settings.n_ctx = context
    settings.n_parallel = slots
    settings.warmup = False
    # One thread: with more, llama.cpp's threads wait for each other by spinning, which on a busy
    # machine made an answer of 350 tokens take 25 s instead of 0.1 s.
    settings.cpuparams.n_threads = 1
    settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    print(f"address {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
