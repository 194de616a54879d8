"""gpu_worker.engines.llamacpp with the real llama.cpp, on models whose every token is known."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import uvloop

from gpu_worker.engine import (
    ContextLengthError,
    EngineBrokenError,
    EngineRefusedError,
    EngineStartError,
    EngineUnavailableError,
    Finish,
    Generation,
    Message,
    ProbeFailedError,
    Sampling,
    Token,
    TokenEvent,
    collect,
)
from gpu_worker.engines.exchange import ExchangeConfig, call, encode_request
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from tests.fakes.processes import cpu_s_until_free
from tests.fakes.scripted_gguf import ASSISTANT, EOS, SCRIPT, USER, write_scripted_gguf
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.waiting import alive, until

StartLlama = Callable[..., Awaitable[LlamaCpp]]
GREEDY = Sampling(temperature=0.0)
ROUND = len(SCRIPT.encode())
"""Tokens of the script: one a byte."""


def ask(
    prompt: tuple[int, ...] | str | tuple[Message, ...] = tuple(b"\0"),
    max_tokens: int | None = ROUND,
    sampling: Sampling = GREEDY,
) -> Generation:
    return Generation(prompt=prompt, max_tokens=max_tokens, sampling=sampling)


def endless() -> Generation:
    """Thousands of tokens: more than a second of work."""
    return ask(max_tokens=4_000)


def kill(engine: LlamaCpp) -> None:
    assert engine.process.pid is not None
    os.kill(engine.process.pid, signal.SIGKILL)


async def all_events(engine: LlamaCpp, request: Generation) -> list[TokenEvent]:
    stream = engine.stream(request)
    try:
        return [event async for batch in stream for event in batch]
    finally:
        await stream.aclose()


async def test_token_ids_give_the_script_and_a_true_account(start_llama: StartLlama) -> None:
    engine = await start_llama()
    text, finish = await collect(engine.stream(ask()))
    assert text == SCRIPT
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("length", 1, ROUND)


async def test_characters_of_several_tokens_arrive_whole(start_llama: StartLlama) -> None:
    engine = await start_llama()
    events = await all_events(engine, ask(max_tokens=3 * ROUND))
    texts = [event.text for event in events if isinstance(event, Token)]
    assert texts == list(SCRIPT * 3)


async def test_messages_answer_as_their_rendered_token_ids_do(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    """On random weights, so that every token of the prompt matters."""
    engine = await start_llama(write_tiny_gguf(tmp_path / "tiny.gguf"), context=1_024)
    rendered = "<|im_start|>user\nGröße 🌊?<|im_end|>\n<|im_start|>assistant\n"
    ids = tuple(await engine.tokenize(rendered, add_special=True, parse_special=True))
    other = (*ids[:-1], ids[-1] - 1)
    request = ask((Message("user", "Größe 🌊?"),), 24)
    from_messages = await collect(engine.stream(request))
    from_ids = await collect(engine.stream(msgspec.structs.replace(request, prompt=ids)))
    from_others = await collect(engine.stream(msgspec.structs.replace(request, prompt=other)))
    assert from_messages[0] == from_ids[0] != from_others[0]
    assert from_messages[1].prompt_tokens == from_ids[1].prompt_tokens == len(ids)


async def test_control_tokens_in_plain_text_stay_text(start_llama: StartLlama) -> None:
    engine = await start_llama()
    _, finish = await collect(engine.stream(ask("a<|eos|>", 1)))
    assert finish.prompt_tokens == len("a<|eos|>")
    assert await engine.tokenize("a<|eos|>") == list(b"a<|eos|>")
    assert await engine.tokenize("a<|eos|>", parse_special=True) == [97, EOS]
    assert await engine.tokenize("<|user|>qx<|assistant|>", parse_special=True) == [
        USER,
        260,
        ASSISTANT,
    ]


async def test_the_end_of_the_model_is_a_stop(start_llama: StartLlama, tmp_path: Path) -> None:
    engine = await start_llama(write_scripted_gguf(tmp_path / "ends.gguf", ends=True))
    text, finish = await collect(engine.stream(ask(max_tokens=None)))
    assert (text, finish.reason) == (SCRIPT, "stop")


async def test_a_full_context_ends_the_answer_by_length(start_llama: StartLlama) -> None:
    engine = await start_llama(context=256)
    _, finish = await collect(engine.stream(ask(max_tokens=None)))
    assert finish.reason == "length"
    assert finish.prompt_tokens + finish.completion_tokens <= 257


async def test_stop_words_and_biases_are_obeyed(start_llama: StartLlama) -> None:
    engine = await start_llama()
    text, finish = await collect(
        engine.stream(ask(sampling=Sampling(temperature=0.0, stop=("rd",))))
    )
    assert (text, finish.reason) == ("helo wö", "stop")
    biased = Sampling(temperature=0.0, logit_bias=((ord("h"), -100.0), (2**30, 100.0)))
    assert not (await collect(engine.stream(ask(sampling=biased))))[0].startswith("h")


async def test_no_id_is_lost_where_text_is_held_back(start_llama: StartLlama) -> None:
    """A string that begins like the one at which to stop, and at last that one itself."""
    engine = await start_llama()
    sampling = Sampling(temperature=0.0, stop=("lo X", "rd"))
    request = msgspec.structs.replace(ask(sampling=sampling), token_ids=True)
    *events, last = await all_events(engine, request)
    texts = [event.text for event in events if isinstance(event, Token)]
    ids = [id_ for event in events if isinstance(event, Token) for id_ in event.ids]
    assert "".join(texts) == "helo wö"
    assert "lo w" in texts, "it was held back until it was none"
    assert isinstance(last, Finish)
    every = [*ids, *last.ids]
    assert sum(1 if id_ >= 0 else -id_ for id_ in every) == last.completion_tokens
    assert [id_ for id_ in every if id_ >= 0] == [*b"helo w", "ö".encode()[1], *b"rd"]


async def test_a_seed_gives_the_same_tokens_in_another_process(start_llama: StartLlama) -> None:
    """What a replay relies on."""
    request = Generation(
        prompt=tuple(b"helo"),
        max_tokens=60,
        sampling=Sampling(temperature=2.0, top_p=1.0, seed=7),
        token_ids=True,
    )
    told = []
    for _ in range(2):
        engine = await start_llama()
        events = await all_events(engine, request)
        told.append([event.ids for event in events if isinstance(event, Token)])
        await engine.aclose()
    assert told[0] == told[1]
    assert len(told[0]) > 20


@pytest.mark.parametrize("prompt", [tuple(b"\0"), (Message("user", "x"),)], ids=["ids", "messages"])
@pytest.mark.parametrize("top", [0, 2])
async def test_log_probabilities_come_with_their_tokens(
    start_llama: StartLlama, prompt: tuple[int, ...], top: int
) -> None:
    engine = await start_llama()
    sampling = Sampling(temperature=0.0, logprobs=True, top_logprobs=top)
    events = await all_events(engine, ask(prompt, ROUND, sampling))
    tokens = [event for event in events if isinstance(event, Token)]
    assert [token.text for token in tokens] == list(SCRIPT)
    for token in tokens:
        assert token.logprobs is not None
        assert all(
            entry.logprob <= 0 and len(entry.top_logprobs) == top for entry in token.logprobs
        )


@pytest.mark.parametrize("prompt", [tuple(b"\0"), (Message("user", "x"),)], ids=["ids", "messages"])
async def test_only_the_first_tokens_may_carry_log_probabilities(
    start_llama: StartLlama, prompt: tuple[int, ...]
) -> None:
    engine = await start_llama()
    sampling = Sampling(temperature=0.0, logprobs=True, logprobs_first=2)
    events = await all_events(engine, ask(prompt, ROUND, sampling))
    tokens = [event for event in events if isinstance(event, Token)]
    assert [token.logprobs is not None for token in tokens] == [True, True] + [False] * (
        len(SCRIPT) - 2
    )


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [((), EngineRefusedError), ((99_999,), EngineRefusedError), ((1,) * 300, ContextLengthError)],
    ids=["empty", "no-such-token", "too-long"],
)
async def test_requests_that_cannot_be_answered_are_refused_before_the_first_event(
    start_llama: StartLlama, prompt: tuple[int, ...], kind: type[Exception]
) -> None:
    engine = await start_llama(context=256)
    with pytest.raises(kind) as caught:
        await collect(engine.stream(ask(prompt)))
    assert type(caught.value) is kind


async def test_closing_a_stream_frees_its_slot_at_once(start_llama: StartLlama) -> None:
    """Within 0.1 s of work at best of five; what was asked for are some three."""
    engine = await start_llama()
    took_s = []
    for _ in range(5):
        stream = engine.stream(endless())
        await anext(stream)
        assert (await engine.slots()).busy == 1
        await stream.aclose()
        took_s.append(await cpu_s_until_free(engine, engine.process.pid))
    assert min(took_s) < 0.1
    assert max(took_s) < 1.0


async def test_closing_while_the_prompt_is_read_frees_the_slot(start_llama: StartLlama) -> None:
    engine = await start_llama()
    stream = engine.stream(ask(tuple(b"ab" * 2_000)))
    reading = asyncio.ensure_future(anext(stream))
    # Between two looks the first token may have come, too; it is at work then as well.
    while not (await engine.slots()).busy and not reading.done():
        pass
    reading.cancel()
    await stream.aclose()
    assert await cpu_s_until_free(engine, engine.process.pid) < 1.0


async def test_slots_run_side_by_side(start_llama: StartLlama) -> None:
    engine = await start_llama(slots=3)
    streams = [engine.stream(endless()) for _ in range(3)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    assert (await engine.slots()).busy == engine.capacity == 3
    await asyncio.gather(*(stream.aclose() for stream in streams))


async def test_a_killed_engine_breaks_its_streams_and_serves_again(start_llama: StartLlama) -> None:
    engine = await start_llama()
    first_url = engine.base_url
    stream = engine.stream(endless())
    await anext(stream)
    kill(engine)
    with pytest.raises(EngineBrokenError):
        async for _ in stream:
            pass
    await until(lambda: engine.process.restarts >= 1 and engine.ready)
    assert engine.base_url != first_url
    assert (await collect(engine.stream(ask())))[0] == SCRIPT
    assert not engine.dead.done()


async def test_an_engine_that_is_down_says_so(start_llama: StartLlama) -> None:
    engine = await start_llama()
    assert await engine.health()
    await engine.aclose()
    assert not await engine.health()
    assert (engine.ready, engine.base_url) == (False, "")
    with pytest.raises(EngineUnavailableError, match="closed"):
        await collect(engine.stream(ask()))
    with pytest.raises(EngineUnavailableError, match="closed"):
        await engine.tokenize("x")


async def test_the_probe_reports_what_it_saw(start_llama: StartLlama) -> None:
    probe = await (await start_llama()).probe()
    assert probe.text == SCRIPT[: len(probe.text)] != ""
    assert probe.tokens == 8
    assert 0 < probe.first_token_s <= probe.total_s


async def test_a_file_that_crashes_the_loader_is_a_clear_error(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    hostile = write_scripted_gguf(tmp_path / "hostile.gguf", rms_epsilon=-1.0)
    with pytest.raises(EngineStartError, match=r"killed by SIGABRT.*eps >= 0"):
        await start_llama(hostile)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 4_096, b"\0" * 100_000])
async def test_a_file_that_is_no_model_is_a_clear_error(
    start_llama: StartLlama, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "junk.gguf"
    path.write_bytes(content)
    with pytest.raises(EngineStartError, match="could not load the model"):
        await start_llama(path)


async def test_a_file_that_crashes_the_engine_later_fails_the_probe(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    engine = await start_llama(write_scripted_gguf(tmp_path / "later.gguf", context_length=0))
    with pytest.raises(ProbeFailedError):
        await engine.probe()


async def test_weights_that_give_no_numbers_fail_the_probe(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    engine = await start_llama(write_scripted_gguf(tmp_path / "nan.gguf", weight=float("nan")))
    with pytest.raises(ProbeFailedError, match="probe"):
        await engine.probe()


async def test_an_engine_that_hangs_fails_the_probe_in_time(scripted_model: Path) -> None:
    config = LlamaCppConfig(threads=1, context_tokens=256, warmup=False, probe_timeout_s=0.2)
    engine = LlamaCpp(scripted_model, model="m", revision="a" * 64, config=config)
    await engine.start()
    try:
        assert engine.process.pid is not None
        os.kill(engine.process.pid, signal.SIGSTOP)
        with pytest.raises(ProbeFailedError, match="in time"):
            await engine.probe()
        os.kill(engine.process.pid, signal.SIGCONT)
    finally:
        await engine.aclose()


def test_the_whole_life_of_an_engine_runs_on_uvloop(scripted_model: Path) -> None:
    async def live() -> None:
        config = LlamaCppConfig(threads=1, context_tokens=4_096, warmup=False)
        engine = LlamaCpp(scripted_model, model="m", revision="a" * 64, config=config)
        await engine.start()
        stream = engine.stream(endless())
        await anext(stream)
        kill(engine)
        with pytest.raises(EngineBrokenError):
            await collect(stream)
        await until(lambda: engine.process.restarts >= 1 and engine.ready)
        assert (await collect(engine.stream(ask())))[0] == SCRIPT
        pid = engine.process.pid
        await engine.aclose()
        assert not alive(pid)

    uvloop.run(live())


async def test_the_engine_listens_on_loopback_only_and_wants_its_key(
    start_llama: StartLlama,
) -> None:
    engine = await start_llama()
    assert urlsplit(engine.base_url).hostname == "127.0.0.1"
    for path in ("/slots", "/props", "/metrics", "/v1/models"):
        status, _ = await call(engine.base_url, encode_request("GET", path), ExchangeConfig())
        assert status == 401
    head = b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\nConnection: close\r\n\r\n"
    assert b"evil" not in await raw(engine.base_url, head)


async def raw(url: str, request: bytes) -> bytes:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_key_is_fresh_for_each_life_and_out_of_sight(start_llama: StartLlama) -> None:
    engine = await start_llama()
    visible = await asyncio.to_thread(visible_of, engine.process.pid)
    keys = [engine.process.launch().first_line for _ in range(2)]
    assert keys[0] != keys[1]
    assert b"llamacpp_process" in visible
    assert b'"key"' not in visible


def visible_of(pid: int | None) -> bytes:
    """What other users of the machine may see of a process, and its own children."""
    folder = Path(f"/proc/{pid}")
    return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()


ORPHANAGE = """
import asyncio, os, sys
from pathlib import Path
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig

async def main():
    config = LlamaCppConfig(threads=1, context_tokens=256, warmup=False)
    engine = LlamaCpp(Path(sys.argv[1]), model="m", revision="a" * 64, config=config)
    await engine.start()
    print(engine.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_no_orphan(scripted_model: Path) -> None:
    arguments = (sys.executable, "-c", ORPHANAGE, str(scripted_model))
    worker = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        engine_pid = int(await worker.stdout.readline())
        assert alive(engine_pid)
        worker.kill()
        await until(lambda: not alive(engine_pid))
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()
