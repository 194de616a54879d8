"""The tables of GGUF types, and the typed getters."""

from __future__ import annotations

import gguf as reference
import pytest

from wire.errors import GGUFInvalidError
from wire.gguf_types import GGUF, NUMBER_FORMATS, TENSOR_TYPES, Value, ValueType


def of(**metadata: Value) -> GGUF:
    return GGUF(version=3, metadata=metadata, alignment=32, data_offset=0, tensors=(), file_size=0)


@pytest.mark.parametrize("kind", list(reference.GGMLQuantizationType))
def test_the_tensor_types_are_those_of_ggml(kind: reference.GGMLQuantizationType) -> None:
    items, size = reference.GGML_QUANT_SIZES[kind]
    found = TENSOR_TYPES[int(kind)]
    assert (found.name, found.block_items, found.block_bytes) == (kind.name, items, size)


def test_the_engine_knows_no_tensor_type_that_is_missing_here() -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    prefix = "GGML_TYPE_"
    known = {
        int(getattr(xllamacpp.ggml_type, name)): name.removeprefix(prefix)
        for name in dir(xllamacpp.ggml_type)
        if name.startswith(prefix) and not name.endswith("COUNT")
    }
    assert known == {code: TENSOR_TYPES[code].name for code in known}


def test_the_value_types_are_those_of_gguf() -> None:
    assert {kind.name: kind.value for kind in reference.GGUFValueType} == {
        kind.name: kind.value for kind in ValueType
    }
    assert set(NUMBER_FORMATS) == set(ValueType) - {ValueType.STRING, ValueType.ARRAY}


def test_getters_give_values_of_their_type() -> None:
    found = of(t="x", i=3, f=0.5, b=True, ts=("a", "b"), ns=(1, 2), empty=())
    assert (found.text("t"), found.integer("i"), found.flag("b")) == ("x", 3, True)
    assert (found.number("f"), found.number("i")) == (0.5, 3)
    assert (found.texts("ts"), found.integers("ns")) == (("a", "b"), (1, 2))
    assert (found.texts("empty"), found.integers("empty")) == ((), ())


def test_getters_fall_back_only_to_a_given_default() -> None:
    found = of()
    assert (found.text("t", ""), found.integer("i", 0), found.flag("b", False)) == ("", 0, False)
    assert (found.texts("ts", ()), found.integers("ns", (1,))) == ((), (1,))
    for getter in (found.text, found.integer, found.number, found.flag, found.texts):
        with pytest.raises(GGUFInvalidError, match="has no 'absent'"):
            getter("absent")


@pytest.mark.parametrize(
    ("getter", "value"),
    [
        ("text", 3), ("text", ("a",)), ("integer", True), ("integer", 1.5), ("integer", "1"),
        ("number", True), ("number", "1"), ("flag", 1), ("texts", "abc"), ("texts", (1,)),
        ("integers", (True,)), ("integers", ("1",)), ("integers", 3),
    ],
)  # fmt: skip
def test_getters_refuse_values_of_another_type(getter: str, value: Value) -> None:
    with pytest.raises(GGUFInvalidError, match=r"'key' is of type .*; it must be"):
        getattr(of(key=value), getter)("key")
