"""gpu_worker.order."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from gpu_worker.order import EngineOrder


def test_an_order_leaves_to_the_configuration_what_it_does_not_say() -> None:
    order = EngineOrder(path=Path("m.gguf"), model="m", revision="r")
    assert (order.variant, order.gpu_layers, order.context_tokens, order.mmap) == ("", -1, 0, None)
    with pytest.raises(FrozenInstanceError):
        order.model = "other"  # type: ignore[misc]
