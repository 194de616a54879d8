from __future__ import annotations

import asyncio

import pytest

from origin.errors import StoreError
from origin.upkeep.jobs import Jobs, Progress
from wire.errors import ConflictError, NotFoundError


class Held:
    """Work that goes on when it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.ended_by: BaseException | None = None

    async def __call__(self, progress: Progress) -> str:
        progress("step", 1, 2)
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError as error:
            self.ended_by = error
            raise
        return "result"


async def test_a_job_tells_its_progress_and_its_result() -> None:
    jobs, work = Jobs(), Held()
    job = jobs.start("gc", work)
    await work.began.wait()
    assert (job.state, job.step, job.done, job.total) == ("running", "step", 1, 2)
    work.go_on.set()
    await jobs.wait()
    assert (jobs.last("gc").state, jobs.last("gc").result) == ("done", "result")


async def test_one_at_a_time() -> None:
    jobs, work = Jobs(), Held()
    jobs.start("gc", work)
    for kind in ("gc", "verify"):
        with pytest.raises(ConflictError, match="gc is running"):
            jobs.start(kind, work)
    work.go_on.set()
    await jobs.wait()
    assert jobs.start("verify", work).number == 2
    await jobs.wait()


async def test_a_cancelled_job_is_ended_before_the_answer() -> None:
    jobs, work = Jobs(), Held()
    jobs.start("gc", work)
    await work.began.wait()
    assert (await jobs.cancel("gc")).state == "cancelled"
    assert work.ended_by is not None
    assert (await jobs.cancel("gc")).state == "cancelled"
    with pytest.raises(NotFoundError):
        await jobs.cancel("verify")


async def test_a_job_that_is_cancelled_before_it_began_makes_room() -> None:
    jobs = Jobs()
    jobs.start("gc", Held())
    await jobs.aclose()
    assert jobs.last("gc").state == "cancelled"
    jobs.start("gc", Held())
    await jobs.aclose()


@pytest.mark.parametrize(
    ("error", "told"),
    [(StoreError("no space"), "no space"), (ZeroDivisionError("secret"), "ZeroDivisionError")],
)
async def test_a_job_that_fails_says_why(error: Exception, told: str) -> None:
    async def work(_progress: Progress) -> None:
        raise error

    jobs = Jobs()
    jobs.start("verify", work)
    await jobs.wait()
    assert jobs.last("verify").state == "failed"
    assert told in jobs.last("verify").error
    assert "secret" not in jobs.last("verify").error


async def test_the_end_of_the_application_ends_the_job() -> None:
    jobs, work = Jobs(), Held()
    await jobs.aclose()
    jobs.start("gc", work)
    await work.began.wait()
    await jobs.aclose()
    assert jobs.last("gc").state == "cancelled"
