"""Whether a chat template only ever copies what messages say.

Where it does, a rendering is a skeleton that depends on the roles alone, with the contents put in
its holes; the skeleton need not be rendered again. This looks at every place where a message's
content may flow and accepts only: being written out, being joined to other texts by ``+`` or ``~``,
being kept under a name, and being trimmed before any of that. Whatever else a template does with a
content, or with a thing that may hold one, makes it opaque, and it is rendered each time.
"""

from __future__ import annotations

from typing import Literal

from jinja2 import nodes

Shape = Literal["as it is", "trimmed"]

_MESSAGES, _MESSAGE, _JOINED = "messages", "message", "joined"
"""Kinds of values; the last is a text that may hold a content."""
_DATED = {"date_string", "datetime", "strftime_now"}
_BLIND_TESTS = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence"}
"""Tests whose answer is the same for every text."""
_DICT_METHODS = set(dir(dict))
"""What jinja2 would take of a message that has no such key."""
_NEIGHBOURS = {"previtem", "nextitem"}
"""What a loop tells of messages."""
_PLAIN = (
    nodes.Template, nodes.Output, nodes.If, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not,
    nodes.Compare, nodes.Operand, nodes.Const, nodes.TemplateData, nodes.Add, nodes.Concat,
    nodes.Name, nodes.Call, nodes.List, nodes.Tuple, nodes.Test, nodes.Mod, nodes.Sub,
    nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.For, nodes.Assign, nodes.Neg, nodes.Slice,
)  # fmt: skip
"""All else (macros, scoped blocks, namespaces, …) is opaque."""


class _OpaqueError(Exception):
    """The template looks at a content."""


def shape_of(tree: nodes.Template) -> Shape | None:
    """How the template copies contents; None: it may do more than copy them, or asks for the date.

    Args:
        tree: as parsed, not yet rewritten.
    """
    reader = _Reader()
    try:
        while True:
            known = len(reader.kinds)
            reader.visit(tree)
            if len(reader.kinds) == known:
                break
    except _OpaqueError:
        return None
    if len(reader.trims) != 1:
        return None
    return "trimmed" if reader.trims == {True} else "as it is"


class _Reader:
    """Finds what each name may hold, whatever the order of statements."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {"messages": _MESSAGES}
        self.trims: set[bool] = set()
        """Whether the contents that were found are trimmed."""

    def visit(self, node: nodes.Node) -> None:
        """A statement and all in it."""
        self._known(node)
        match node:
            case nodes.For(target=target, iter=iterated):
                if node.test is not None or node.recursive:
                    raise _OpaqueError
                kind = self.kind(iterated)
                if kind in (_JOINED, _MESSAGE):
                    raise _OpaqueError
                self._name(target, _MESSAGE if kind == _MESSAGES else "")
                self._visit_all((*node.body, *node.else_))
            case nodes.Assign(target=target, node=value):
                self._name(target, self.kind(value))
            case nodes.If(test=test):
                self._clean(test)
                self._visit_all((*node.body, *node.elif_, *node.else_))
            case nodes.Output():
                for part in node.nodes:
                    if self.kind(part) in (_MESSAGES, _MESSAGE):
                        raise _OpaqueError
            case nodes.Template():
                self._visit_all(node.body)
            case _:
                raise _OpaqueError

    def kind(self, node: nodes.Node) -> str:
        """What an expression may hold; the empty string: nothing of a content."""
        self._known(node)
        match node:
            case nodes.Name(name=name):
                if name in _DATED:
                    raise _OpaqueError
                return self.kinds.get(name, "")
            case nodes.Getitem() | nodes.Getattr():
                return self._of_item(node)
            case nodes.Add(left=left, right=right):
                return self._joined(left, right)
            case nodes.Concat():
                return self._joined(*node.nodes)
            case nodes.CondExpr(test=test, expr1=first, expr2=second):
                self._clean(test)
                return self._joined(first, *([second] if second is not None else []))
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Test(name=name, node=inner) if name in _BLIND_TESTS and not node.args:
                if not self._is_content(inner):
                    self.kind(inner)
                return ""
        self._clean_below(node)
        return ""

    def _of_item(self, node: nodes.Getitem | nodes.Getattr) -> str:
        if isinstance(node, nodes.Getattr):
            return self._part(node.node, node.attr)
        place = node.arg
        if isinstance(place, nodes.Const):
            return self._part(node.node, place.value)
        if isinstance(place, nodes.Neg | nodes.Slice) and self.kind(node.node) == _MESSAGES:
            self._clean_below(place)
            return _MESSAGE if isinstance(place, nodes.Neg) else _MESSAGES
        self._clean_below(node)
        return ""

    def _filtered(self, node: nodes.Filter) -> str:
        inner = node.node
        if node.name == "random" or inner is None:
            raise _OpaqueError
        if node.name == "trim" and not node.args and self._is_content(inner):
            self.trims.add(True)
            return _JOINED
        if node.name != "length" or self.kind(inner) != _MESSAGES:
            self._clean_below(node)
        return ""

    def _part(self, owner: nodes.Node, key: object) -> str:
        if key in _NEIGHBOURS:
            raise _OpaqueError
        kind = self.kind(owner)
        if kind == _MESSAGES:
            if not isinstance(key, int):
                raise _OpaqueError
            return _MESSAGE
        if kind == _MESSAGE:
            if key == "content":
                self.trims.add(False)
                return _JOINED
            if not isinstance(key, str) or key in _DICT_METHODS:
                raise _OpaqueError
            return ""
        if kind:
            raise _OpaqueError
        return ""

    def _is_content(self, node: nodes.Node) -> bool:
        """Whether it is a content itself, right from its message."""
        match node:
            case (
                nodes.Getitem(node=owner, arg=nodes.Const(value="content"))
                | nodes.Getattr(node=owner, attr="content")
            ):
                return self.kind(owner) == _MESSAGE
        return False

    def _joined(self, *parts: nodes.Node) -> str:
        kinds = {self.kind(part) for part in parts}
        if kinds & {_MESSAGES, _MESSAGE}:
            raise _OpaqueError
        return _JOINED if _JOINED in kinds else ""

    def _name(self, target: nodes.Node, kind: str) -> None:
        if not isinstance(target, nodes.Name) or target.name == "messages":
            raise _OpaqueError
        known = self.kinds.get(target.name, "")
        if known and kind and known != kind:
            raise _OpaqueError
        if kind:
            self.kinds[target.name] = kind

    def _clean(self, node: nodes.Node) -> None:
        if self.kind(node):
            raise _OpaqueError

    def _clean_below(self, node: nodes.Node) -> None:
        for child in node.iter_child_nodes():
            self._known(child)
            self._clean(child)

    def _visit_all(self, statements: tuple[nodes.Node, ...] | list[nodes.Node]) -> None:
        for statement in statements:
            self.visit(statement)

    def _known(self, node: nodes.Node) -> None:
        if not isinstance(node, _PLAIN):
            raise _OpaqueError
