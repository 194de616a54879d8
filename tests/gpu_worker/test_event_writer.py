"""gpu_worker.event_writer: clients that leave, stall, or speak an older HTTP."""

from __future__ import annotations

import asyncio

from gpu_worker.answers import AnswersConfig
from gpu_worker.engine import Token, TokenEvent
from gpu_worker.routes import RoutesConfig
from tests.fakes.engine import FakeEngine, finish
from tests.fakes.worker_api import CHAT, STREAM, StartApi, WorkerApi


async def connect(worker: WorkerApi) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(worker.server.host, worker.server.port)


async def test_a_client_that_leaves_in_mid_stream_frees_its_slot(start_api: StartApi) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    engine.held_from = 1
    worker = await start_api(engine)
    async with worker.post(CHAT, STREAM) as answer:
        await answer.content.readuntil(b"Hel")
        answer.close()
    async with asyncio.timeout(30):
        await engine.until_open(0)
    assert worker.serving.load().busy == 0


async def test_a_client_that_does_not_read_is_dropped_and_does_not_fill_memory(
    start_api: StartApi,
) -> None:
    flood: list[list[TokenEvent]] = [[Token("x" * 50_000)]] * 2_000
    engine = FakeEngine([*flood, [finish()]])
    config = RoutesConfig(answers=AnswersConfig(stall_timeout_s=0.05))
    worker = await start_api(engine, routes=config)
    _, writer = await connect(worker)
    writer.write(worker.raw_stream())
    await engine.until_open(1)
    async with asyncio.timeout(30):
        await engine.until_open(0)
    assert engine.given < len(flood) / 2
    writer.close()


async def test_a_client_that_reads_slowly_gets_everything(start_api: StartApi) -> None:
    long: list[list[TokenEvent]] = [[Token("x" * 50_000)]] * 200
    engine = FakeEngine([*long, [finish()]])
    worker = await start_api(engine)
    reader, writer = await connect(worker)
    writer.write(worker.raw_stream())
    await engine.until_open(1)
    answer = await read_to_done(reader)
    assert answer.count(b"x" * 50_000) == 200
    writer.close()


async def read_to_done(reader: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
        answer += await reader.read(10_000)
    return bytes(answer)


async def test_http_1_0_gets_a_plain_stream(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    reader, writer = await connect(worker)
    writer.write(worker.raw_stream("1.0"))
    answer = await reader.read()
    writer.close()
    assert answer.endswith(b"data: [DONE]\n\n")
    assert b"chunked" not in answer


async def test_a_connection_is_kept_from_one_answer_to_the_next(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    reader, writer = await connect(worker)
    for _ in range(3):
        writer.write(worker.raw_stream())
        answer = await read_to_done(reader)
        assert answer.startswith(b"HTTP/1.1 200 OK")
    writer.close()
