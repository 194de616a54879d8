from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.receivers import MemoryReceiver
from tests.fakes.remote_write import Rig


async def test_ages_are_told(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    receiver.status = None
    rig = Rig(tmp_path, receiver)
    assert rig.sample("oldest_seconds") == 0
    assert rig.sample("last_success_timestamp_seconds") == 0
    await rig.scrape(3)
    assert rig.sample("oldest_seconds") == pytest.approx(30)
    receiver.status = 200
    await rig.ship_all()
    rig.wall.advance(5)
    rig.hand.advance(5)
    assert rig.sample("oldest_seconds") == 0
    assert rig.sample("last_success_timestamp_seconds") == pytest.approx(rig.wall() - 5)
    assert rig.sample("spool_degraded") == 0
    await rig.remote.aclose()
