"""The texts that stand below the fields of a class, which Python itself throws away."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping


def field_texts(kind: type[object]) -> Mapping[str, str]:
    """Field → the string below its annotation; of a base class too, as far as it is our own."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.partition(".")[0] in {"wire", "origin", "edge_tier", "gpu_worker"}:
            texts |= _of_class(one)
    return texts


def summary(kind: type[object]) -> str:
    """The first sentence or two of a class's own docstring, on one line."""
    return joined((kind.__doc__ or "").partition("\n\n")[0])


def joined(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def _of_class(kind: type[object]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for line, below in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[line.target.id] = joined(str(below.value.value))
    return texts
