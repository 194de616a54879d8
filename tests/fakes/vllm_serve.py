"""A stand-in for ``vllm serve``: its command line and its HTTP API over the real llama.cpp.

vLLM itself needs a GPU, or gigabytes of wheels. What is real here: the process, the command line
(an unknown flag ends it), the wire format as vLLM's ``protocol.py`` has it, tokens and log-
probabilities from llama.cpp, and that a closed connection stops the generation. What is not: vLLM.
The folder must hold what vLLM would want, and ``stand-in.gguf``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import xllamacpp
from aiohttp import ClientSession, TCPConnector, web


class StandIn:
    """The routes."""

    def __init__(self, url: str, model: str, key: str, context: int) -> None:
        self.url, self.model, self.context = url, model, context
        self.allowed = f"Bearer {key}"
        self.running = 0

    async def session(self, app: web.Application) -> AsyncIterator[None]:
        # llama.cpp ends a connection that was idle, perhaps just when it is used again.
        async with ClientSession(
            self.url,
            headers={"Authorization": "Bearer inner"},
            connector=TCPConnector(force_close=True),
        ) as session:
            self.http = session
            yield

    async def metrics(self, _request: web.Request) -> web.Response:
        line = f'vllm:num_requests_running{{engine="0",model_name="m"}} {float(self.running)}'
        return web.Response(text=f"# HELP vllm:num_requests_running x\n{line}\n")

    async def tokenize(self, request: web.Request) -> web.Response:
        asked = await request.json()
        question = {
            "content": asked["prompt"],
            "add_special": asked["add_special_tokens"],
            "parse_special": True,
        }
        async with self.http.post("/tokenize", json=question) as answer:
            tokens = (await answer.json())["tokens"]
        return web.json_response({"count": len(tokens), "max_model_len": 0, "tokens": tokens})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        asked = await self.admitted(request)
        prompt, count = asked["prompt"], asked.get("max_tokens", 16)
        if isinstance(prompt, list) and len(prompt) + count > self.context:
            return refused(f"This model's maximum context length is {self.context} tokens.")
        wanted = {
            "prompt": prompt,
            "n_predict": count,
            "temperature": asked.get("temperature", 1.0),
            "stream": True,
            "stop": asked.get("stop", []),
        }
        if asked.get("logprobs") is not None:
            wanted["n_probs"] = max(1, asked["logprobs"])
        answer = await begin(request)
        self.running += 1
        try:
            async for event in self.events("/completion", wanted):
                if not event["stop"]:
                    await send(answer, self.chunk(event, asked.get("logprobs")))
                    continue
                reason = "length" if event["stop_type"] == "limit" else "stop"
                choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": reason}
                await send(answer, {"choices": [choice], "usage": None})
                read, made = event["tokens_evaluated"], event["tokens_predicted"]
                usage = {"prompt_tokens": read, "completion_tokens": made}
                await send(answer, {"choices": [], "usage": usage})
        finally:
            self.running -= 1
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await self.admitted(request)
        answer = await begin(request)
        self.running += 1
        try:
            async for event in self.events("/v1/chat/completions", asked):
                await send(answer, event)
        finally:
            self.running -= 1
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def admitted(self, request: web.Request) -> dict[str, Any]:
        if request.headers.get("Authorization") != self.allowed:
            raise web.HTTPUnauthorized(text='{"error":"Unauthorized"}')
        asked: dict[str, Any] = await request.json()
        if asked["model"] != self.model:
            raise web.HTTPNotFound(text=f'{{"error":{{"message":"no model {asked["model"]}"}}}}')
        return asked

    async def events(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self.http.post(path, json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

    def chunk(self, event: dict[str, Any], top: int | None) -> dict[str, Any]:
        logprobs = None
        if top is not None:
            found = event.get("completion_probabilities", [])
            logprobs = {
                "text_offset": [0] * len(found),
                "tokens": [entry["token"] for entry in found],
                "token_logprobs": [entry["logprob"] for entry in found],
                "top_logprobs": [
                    {other["token"]: other["logprob"] for other in entry["top_logprobs"][:top]}
                    or None
                    for entry in found
                ],
            }
        choice = {
            "index": 0,
            "text": event["content"],
            "logprobs": logprobs,
            "finish_reason": None,
            "stop_reason": None,
        }
        created = int(time.time())
        head = {"id": "cmpl-1", "object": "text_completion", "created": created}
        return {**head, "model": self.model, "choices": [choice], "usage": None}


def refused(message: str) -> web.Response:
    fault = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return web.json_response({"error": fault}, status=400)


async def begin(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await answer.prepare(request)
    return answer


async def send(answer: web.StreamResponse, event: dict[str, Any]) -> None:
    await answer.write(b"data: " + json.dumps(event).encode() + b"\n\n")


async def healthy(_request: web.Request) -> web.Response:
    return web.Response()


def serve_llama(folder: Path, slots: int, context: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "stand-in.gguf")
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context * slots, slots, 0, 1
    params.kv_unified, params.fit_params, params.api_keys = False, False, ["inner"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model_tag", type=Path)
    for name in ("--host", "--served-model-name", "--load-format", "--generation-config"):
        parser.add_argument(name, required=True)
    for name in ("--port", "--max-model-len", "--max-num-seqs"):
        parser.add_argument(name, required=True, type=int)
    parser.add_argument("--disable-uvicorn-access-log", action="store_true")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--tool-call-parser")
    return parser.parse_args()


def main() -> None:
    told = arguments()
    json.loads((told.model_tag / "config.json").read_bytes())
    if not list(told.model_tag.glob("*.safetensors")):
        sys.exit("RuntimeError: Cannot find any model weights")
    for name, value in (("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1")):
        assert os.environ[name] == value, name
    server = serve_llama(told.model_tag, told.max_num_seqs, told.max_model_len)
    stand_in = StandIn(
        str(server.listening_address),
        told.served_model_name,
        os.environ["VLLM_API_KEY"],
        told.max_model_len,
    )
    app = web.Application()
    app.cleanup_ctx.append(stand_in.session)
    app.router.add_get("/health", healthy)
    app.router.add_get("/metrics", stand_in.metrics)
    app.router.add_post("/tokenize", stand_in.tokenize)
    app.router.add_post("/v1/completions", stand_in.completions)
    app.router.add_post("/v1/chat/completions", stand_in.chat)
    web.run_app(app, host=told.host, port=told.port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
