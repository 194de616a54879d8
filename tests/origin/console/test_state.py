"""The console's contract travels as JSON, and its defaults are a quiet fleet."""

import msgspec

from origin.console.state import ConsoleState, EdgeRow, Totals


def test_a_state_survives_json() -> None:
    state = ConsoleState(
        at=1.0,
        version="1",
        totals=Totals(problems=("edge a is missing",), healthy=False),
        edges={"a": EdgeRow(region="eu", state="missing", behind={"m@stable": 2})},
    )
    assert msgspec.json.decode(msgspec.json.encode(state), type=ConsoleState) == state


def test_a_quiet_fleet_is_healthy() -> None:
    assert Totals().healthy
    assert "hit_ratio" not in msgspec.to_builtins(Totals())
