from __future__ import annotations

from io import BytesIO

import msgspec

from edge_tier.gateway.access_log import AccessLog
from tests.fakes.waiting import until


async def test_lines_are_written_together_after_a_moment() -> None:
    out = BytesIO()
    log = AccessLog(out, delay_s=0, wall=lambda: 0.0)
    for number in range(3):
        log.write("info", "answered", {"request": f"req-{number}"})
    assert out.getvalue() == b""
    await until(lambda: bool(out.getvalue()))
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    assert [line["request"] for line in lines] == ["req-0", "req-1", "req-2"]
    assert lines[0]["event"] == "answered"
    assert lines[0]["level"] == "info"
    assert lines[0]["timestamp"] == "1970-01-01T00:00:00Z"


async def test_what_waits_is_bounded_and_can_be_flushed() -> None:
    out = BytesIO()
    log = AccessLog(out, delay_s=60)
    for _ in range(600):
        log.write("info", "answered", {})
    assert out.getvalue().count(b"\n") == 512
    log.flush()
    assert out.getvalue().count(b"\n") == 600
    log.flush()
    assert out.getvalue().endswith(b"}\n")
