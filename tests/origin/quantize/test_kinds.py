from __future__ import annotations

import gguf
import pytest

from origin.quantize.errors import QuantizeError
from origin.quantize.kinds import QUANTIZATIONS, quantizations


def test_the_numbers_are_those_that_gguf_readers_know() -> None:
    for name, quant in QUANTIZATIONS.items():
        assert gguf.LlamaFileType[f"MOSTLY_{name}"] == quant.file_type


def test_names_are_read_without_regard_to_case_and_once() -> None:
    assert [q.name for q in quantizations(["q4_k_m", " Q8_0", "Q4_K_M"])] == ["Q4_K_M", "Q8_0"]


@pytest.mark.parametrize("names", [[], [""], ["Q4_K_M", "Q9"], ["--help"]])
def test_what_is_not_known_is_told(names: list[str]) -> None:
    with pytest.raises(QuantizeError, match="known are Q4_0"):
        quantizations(names)
