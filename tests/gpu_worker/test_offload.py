from __future__ import annotations

import pytest

from gpu_worker.offload import engine_offloads


def nowhere(_name: str) -> None:
    return None


def test_an_operators_server_is_built_for_it() -> None:
    assert engine_offloads(lambda name: f"/usr/bin/{name}", python="/no/python")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("print('a banner'); print(2)", True),
        ("print(0)", False),
        ("print(-1)", False),
        ("print('none')", False),
        ("pass", False),
        ("print(1); raise SystemExit(3)", False),
        ("import no_such_wheel", False),
    ],
)
def test_a_wheel_is_asked_for_its_devices(question: str, answer: bool) -> None:
    assert engine_offloads(nowhere, question=question) == answer


def test_who_cannot_be_asked_cannot_do_it() -> None:
    assert not engine_offloads(nowhere, python="/no/python")
    assert not engine_offloads(nowhere, question="import time; time.sleep(60)", timeout_s=0.05)


def test_the_wheel_here_answers() -> None:
    pytest.importorskip("xllamacpp")
    assert engine_offloads(nowhere) in {True, False}
