"""Where llama.cpp's own jinja differs from jinja2, made the same or named.

llama.cpp works on bytes: what it calls white space, upper case or length is ASCII's. Trimming,
which templates do all the time, is made to trim what llama.cpp trims. What else would differ on
texts that are not ASCII is named, so that such a template is left to the engine.
Source: llama.cpp ``common/jinja`` (``string.cpp``, ``value.cpp``).
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

WHITE_SPACE = " \t\n\v\f\r"
"""What C's ``isspace`` knows."""

_STRIPS = {"strip", "lstrip", "rstrip"}
_SAME_METHODS = _STRIPS | {
    "endswith", "get", "items", "keys", "replace", "rsplit", "split", "startswith", "values",
}  # fmt: skip
_SAME_FILTERS = {
    "d", "default", "first", "items", "join", "last", "length", "list", "map", "rejectattr",
    "safe", "selectattr", "string", "tojson", "trim",
}  # fmt: skip


def trim(value: object, chars: str | None = None) -> str:
    """The filter ``trim``, as llama.cpp has it."""
    return str(value).strip(chars or WHITE_SPACE)


def adapt(template: nodes.Template) -> list[str]:
    """Make the methods that strip do as llama.cpp's; what may still differ, as sentences."""
    for call in template.find_all(nodes.Call):
        if _method(call) in _STRIPS and not call.args:
            call.args = [nodes.Const(WHITE_SPACE)]
    return list(_differences(template))


def _differences(template: nodes.Template) -> Iterator[str]:
    for call in template.find_all(nodes.Call):
        method = _method(call)
        if method and method not in _SAME_METHODS and not _is_role(_owner(call)):
            yield _named(f".{method}()", call)
        if method in ("split", "rsplit") and not call.args:
            yield _named(f".{method}() without a separator", call)
    for filter_ in template.find_all(nodes.Filter):
        if filter_.name not in _SAME_FILTERS and not _is_role(filter_.node):
            yield _named(f"filter {filter_.name!r}", filter_)
        if filter_.name == "length" and _is_content(filter_.node):
            yield _named("the length of a text", filter_)
    for item in template.find_all(nodes.Getitem):
        position = isinstance(item.arg, nodes.Slice | nodes.Const | nodes.Neg)
        named = isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str)
        if position and not named and _is_content(item.node):
            yield _named("a part of a text by its position", item)


def _method(call: nodes.Call) -> str:
    """The name of the method that is called, or the empty string. ``loop.cycle`` is none."""
    if isinstance(call.node, nodes.Getattr) and not _is_name(call.node.node, "loop"):
        return call.node.attr
    return ""


def _owner(call: nodes.Call) -> nodes.Node:
    assert isinstance(call.node, nodes.Getattr)
    return call.node.node


def _is_role(node: nodes.Node | None) -> bool:
    """Whether the node is a message's role, or a name for one: always ASCII."""
    return _names(node, "role")


def _is_content(node: nodes.Node | None) -> bool:
    """Whether the node is a message's content, or a name for it."""
    return _names(node, "content")


def _names(node: nodes.Node | None, word: str) -> bool:
    match node:
        case nodes.Getattr(attr=found):
            return bool(found == word)
        case nodes.Getitem(arg=nodes.Const(value=found)):
            return bool(found == word)
    return _is_name(node, word)


def _is_name(node: nodes.Node | None, word: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == word


def _named(what: str, node: nodes.Node) -> str:
    return f"llama.cpp and jinja2 may differ in {what} (line {node.lineno} of the chat template)"
