"""Makes a chat template say which of its output is its own.

Content must never become a control token, and the template's own control tokens must. So before it
is compiled, every control literal that the template itself writes is replaced by a mark (one code
point that no text has), and content is rendered as it is. What comes out as a mark is a control
token; a control literal that comes out as text was content.

That equals rendering the plain template, provided that marked text only flows: it is written,
joined, assigned and chosen, but never looked into. The rewriter proves this over the syntax tree
(by name, whatever the order of execution) and otherwise says what it could not prove. Literals put
together from constants and a role (``'<|' + message.role + '|>'``) are marked at rendering; only
the role of what a loop over the messages yields counts as one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from jinja2 import nodes

from wire.specials import Specials

ROLES = ("system", "user", "assistant", "tool")
MARK_FILTER = "mark own text"
"""No name that a template could write."""
_FLOWING_FILTERS = {"trim", "string", "default", "d"}
_LOOKING_METHODS = {
    "count", "endswith", "find", "get", "index", "lstrip", "rfind", "rindex", "rsplit", "rstrip",
    "split", "startswith", "strip",
}  # fmt: skip
_LOOKING_TESTS = {"defined", "undefined", "none", "string"}


@dataclass(frozen=True, slots=True)
class _Run:
    """Adjacent terms of one output: either all the template's own text, or one other term."""

    own: bool
    terms: tuple[nodes.Expr, ...]

    def texts(self) -> Iterator[str]:
        """What an own run can say: once, or once a role where it names the role."""
        fixed = all(_text(term) is not None for term in self.terms)
        for role in ROLES[:1] if fixed else ROLES:
            yield "".join(role if (text := _text(term)) is None else text for term in self.terms)


class Rewriter:
    """Rewrites one parsed template in place; ``reasons`` stays empty where all is proven.

    Args:
        specials: the control tokens.
        mark: replaces the control literals in a text by their marks.
        variables: names that the caller fills with marked text (``bos_token``).
    """

    def __init__(
        self, specials: Specials, mark: Callable[[str], str], variables: Iterable[str]
    ) -> None:
        self._specials = specials
        self._mark = mark
        self._marked = set(variables)
        self._macros: set[str] = set()
        self._turns: frozenset[str] = frozenset()
        self._trims = not any(t.text != t.text.strip() for t in specials.tokens)
        self.reasons: list[str] = []

    def rewrite(self, template: nodes.Template) -> None:
        """Find every name that carries marks, until none is new; then replace and prove."""
        self._macros = {macro.name for macro in template.find_all(nodes.Macro)}
        self._turns = _names_of_turns(template)
        known = -1
        while known != len(self._marked):
            known = len(self._marked)
            self._collect(template)
        self._statements(template.body)

    # Which names carry marks

    def _collect(self, template: nodes.Template) -> None:
        for assign in template.find_all(nodes.Assign):
            if self._carries(_expression(assign.node)):
                self._add_target(assign.target)
        for block in template.find_all(nodes.AssignBlock):
            if self._writes(block.body):
                self._add_target(block.target)
        for macro in template.find_all(nodes.Macro):
            if self._writes(macro.body):
                self._marked.add(macro.name)
            values = list(zip(macro.args[::-1], macro.defaults[::-1], strict=False))
            for call in template.find_all(nodes.Call):
                if _called(call) == macro.name:
                    values.extend(zip(macro.args, call.args, strict=False))
                    self._marked.update(k.key for k in call.kwargs if self._carries(k.value))
            self._marked.update(name.name for name, value in values if self._carries(value))

    def _add_target(self, target: nodes.Node) -> None:
        if isinstance(target, nodes.NSRef):
            self._marked.add(f"{target.name}.{target.attr}")
        elif isinstance(target, nodes.Name):
            self._marked.add(target.name)
        else:
            self._refuse("sets several names at once", target)

    def _writes(self, body: Sequence[nodes.Node]) -> bool:
        """Whether these statements write marks."""
        return any(
            self._run_carries(run)
            for output in nodes.Template(list(body)).find_all(nodes.Output)
            for run in self._runs(output.nodes)
        )

    def _carries(self, expression: nodes.Expr) -> bool:
        """Whether the expression's value may hold marks once it is rewritten."""
        match expression:
            case nodes.Name(name=name):
                return name in self._marked
            case nodes.Getattr(node=nodes.Name(name=owner), attr=attribute):
                return f"{owner}.{attribute}" in self._marked
            case nodes.Const(value=str()) | nodes.Add() | nodes.Concat():
                return any(self._run_carries(run) for run in self._runs(_terms(expression)))
            case nodes.CondExpr(expr1=one, expr2=other):
                return self._carries(one) or (other is not None and self._carries(other))
            case nodes.And(left=one, right=other) | nodes.Or(left=one, right=other):
                return self._carries(one) or self._carries(other)
            case nodes.Filter(node=inner, args=args) if self._flows(expression):
                return any(self._carries(part) for part in (inner, *args) if part is not None)
            case nodes.Call():
                return _called(expression) in self._macros & self._marked
        return False

    def _run_carries(self, run: _Run) -> bool:
        if run.own:
            return any(self._specials.holds_any(text) for text in run.texts())
        return self._carries(run.terms[0])

    def _runs(self, outputs: Sequence[nodes.Expr]) -> list[_Run]:
        """Group what is written in a row; a chain that is all own counts as its terms."""
        flat: list[nodes.Expr] = []
        for node in outputs:
            terms = _terms(node)
            flat.extend(terms if all(self._is_own(term) for term in terms) else [node])
        runs: list[_Run] = []
        for own, group in groupby(flat, self._is_own):
            if own:
                runs.append(_Run(True, tuple(group)))
            else:
                runs.extend(_Run(False, (term,)) for term in group)
        return runs

    def _is_own(self, node: nodes.Node) -> bool:
        """Whether the node is the template's own text: a constant, or the role of a message."""
        match node:
            case nodes.Getattr(node=nodes.Name(name=owner), attr="role"):
                return owner in self._turns
            case nodes.Getitem(node=nodes.Name(name=owner), arg=nodes.Const(value="role")):
                return owner in self._turns
        return _text(node) is not None

    # Statements

    def _statements(self, body: Sequence[nodes.Node]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: nodes.Node) -> None:
        match statement:
            case nodes.Output():
                statement.nodes = [
                    node for run in self._runs(statement.nodes) for node in self._run(run)
                ]
            case nodes.Assign():
                statement.node = self._flow(_expression(statement.node))
            case nodes.AssignBlock(filter=None):
                self._statements(statement.body)
            case nodes.If():
                self._condition(_expression(statement.test))
                for part in (statement.body, statement.elif_, statement.else_):
                    self._statements(part)
            case nodes.For():
                self._look(_expression(statement.iter))
                if statement.test is not None:
                    self._condition(_expression(statement.test))
                self._statements(statement.body)
                self._statements(statement.else_)
            case nodes.Macro():
                statement.defaults = [self._flow(default) for default in statement.defaults]
                self._statements(statement.body)
            case nodes.Scope():
                self._statements(statement.body)
            case nodes.Break() | nodes.Continue():
                pass
            case _:
                self._refuse(f"uses {type(statement).__name__}", statement)

    def _run(self, run: _Run) -> list[nodes.Expr]:
        """The run with marks for its control literals."""
        if not run.own:
            return [self._flow(run.terms[0])]
        texts = [_text(term) for term in run.terms]
        if None not in texts:
            return [nodes.Const(self._mark("".join(text for text in texts if text is not None)))]
        apart = [
            term if text is None else nodes.Const(self._mark(text))
            for term, text in zip(run.terms, texts, strict=True)
        ]
        whole = [self._mark(text) for text in run.texts()]
        if all(text == _joined(apart, role) for text, role in zip(whole, ROLES, strict=True)):
            return apart
        joined = nodes.Concat(list(run.terms))
        return [nodes.Filter(joined, MARK_FILTER, [], [], None, None)]

    # Expressions

    def _flow(self, expression: nodes.Expr) -> nodes.Expr:
        """An expression whose value is written or kept as it is."""
        match expression:
            case nodes.Const(value=str()) | nodes.Add() | nodes.Concat():
                return self._join(expression)
            case nodes.CondExpr():
                self._condition(expression.test)
                expression.expr1 = self._flow(expression.expr1)
                if expression.expr2 is not None:
                    expression.expr2 = self._flow(expression.expr2)
            case nodes.And() | nodes.Or():
                expression.left = self._flow(expression.left)
                expression.right = self._flow(expression.right)
            case nodes.Filter(node=nodes.Expr() as inner) if self._flows(expression):
                expression.node = self._flow(inner)
                expression.args = [self._flow(argument) for argument in expression.args]
            case nodes.Call() if _called(expression) in self._macros:
                expression.args = [self._flow(argument) for argument in expression.args]
                for pair in expression.kwargs:
                    pair.value = self._flow(pair.value)
            case nodes.Name() | nodes.Getattr(node=nodes.Name()):
                pass
            case _:
                self._look(expression)
        return expression

    def _flows(self, filter_: nodes.Filter) -> bool:
        """Whether the filter hands on what it gets. Trimming does, unless it could trim a literal
        that a mark stands for.
        """
        if filter_.name == "trim":
            return self._trims and not filter_.args and not filter_.kwargs
        return filter_.name in _FLOWING_FILTERS

    def _join(self, expression: nodes.Expr) -> nodes.Expr:
        """A constant, or a chain of ``+`` or ``~``."""
        parts = [part for run in self._runs(_terms(expression)) for part in self._run(run)]
        if isinstance(expression, nodes.Concat):
            return nodes.Concat(parts)
        joined = parts[0]
        for part in parts[1:]:
            joined = nodes.Add(joined, part)
        return joined

    def _condition(self, test: nodes.Expr) -> None:
        """A test: whether marked text is there may be asked, what it is may not."""
        match test:
            case nodes.Name() | nodes.Getattr(node=nodes.Name()):
                return
            case nodes.Not(node=inner):
                self._condition(inner)
            case nodes.And(left=one, right=other) | nodes.Or(left=one, right=other):
                self._condition(one)
                self._condition(other)
            case nodes.Test(node=nodes.Name() | nodes.Getattr(node=nodes.Name()), name=name) if (
                name in _LOOKING_TESTS
            ):
                return
            case _:
                self._look(test)

    def _look(self, expression: nodes.Expr) -> None:
        """An expression that looks into its parts: no marked text in it, and no control literal
        that could leave it. A literal that content is only compared with stays as it is.
        """
        if self._marks(expression) and not isinstance(expression, nodes.Const):
            self._refuse("looks into its own control tokens", expression)
            return
        match expression:
            case nodes.Const(value=str() as text) if self._specials.holds_any(text):
                self._refuse("computes with a control token", expression)
            case nodes.Compare():
                self._look_beyond(expression)
            case nodes.Test(node=inner):
                self._look_beyond(inner)
            case nodes.Call(node=nodes.Getattr(node=owner, attr=method)) if (
                method in _LOOKING_METHODS
            ):
                self._look(owner)
            case _:
                self._look_beyond(expression)

    def _look_beyond(self, expression: nodes.Node) -> None:
        """Look into the parts, past constants where the whole is a comparison."""
        compared = isinstance(expression, nodes.Compare | nodes.Operand)
        for child in expression.iter_child_nodes():
            if isinstance(child, nodes.Operand):
                self._look_beyond(child)
            elif isinstance(child, nodes.Expr) and not (
                compared and isinstance(child, nodes.Const)
            ):
                self._look(child)
            elif isinstance(child, nodes.Helper):
                self._look_beyond(child)

    def _marks(self, expression: nodes.Expr) -> bool:
        """Whether a marked name stands anywhere in the expression."""
        parts: list[nodes.Expr] = [expression, *expression.find_all((nodes.Name, nodes.Getattr))]
        return any(
            self._carries(part) for part in parts if isinstance(part, nodes.Name | nodes.Getattr)
        )

    def _refuse(self, what: str, node: nodes.Node) -> None:
        self.reasons.append(f"the chat template {what} (line {node.lineno})")


def _names_of_turns(template: nodes.Template) -> frozenset[str]:
    """Names that only ever stand for a message: targets of loops over the messages."""
    bound = Counter(name.name for name in template.find_all(nodes.Name) if name.ctx != "load")
    assigned: dict[str, list[nodes.Node]] = defaultdict(list)
    looped: dict[str, list[nodes.Node]] = defaultdict(list)
    for assign in template.find_all(nodes.Assign):
        if isinstance(assign.target, nodes.Name):
            assigned[assign.target.name].append(assign.node)
    for loop in template.find_all(nodes.For):
        if isinstance(loop.target, nodes.Name):
            looped[loop.target.name].append(loop.iter)

    def only_messages(name: str, values: list[nodes.Node], lists: frozenset[str]) -> bool:
        return bound[name] == len(values) and all(_is_list(value, lists) for value in values)

    lists, before = frozenset({"messages", *assigned}), frozenset[str]()
    while lists != before:
        before = lists
        lists = frozenset(name for name in before if only_messages(name, assigned[name], before))
    return frozenset(n for n, values in looped.items() if only_messages(n, values, lists))


def _is_list(node: nodes.Node, lists: frozenset[str]) -> bool:
    """Whether the node is the messages, or some of them."""
    match node:
        case nodes.Name(name=name):
            return name in lists
        case nodes.Getitem(node=inner, arg=nodes.Slice()):
            return _is_list(inner, lists)
        case nodes.CondExpr(expr1=one, expr2=nodes.Expr() as other):
            return _is_list(one, lists) and _is_list(other, lists)
    return False


def _text(node: nodes.Node) -> str | None:
    """The constant text of a node, or None."""
    match node:
        case nodes.Const(value=str() as text):
            return text
        case nodes.TemplateData(data=text):
            return str(text)
    return None


def _terms(node: nodes.Expr) -> list[nodes.Expr]:
    """The terms of a chain of ``+`` or of ``~``, from left to right."""
    if isinstance(node, nodes.Add):
        return [*_terms(node.left), node.right]
    return list(node.nodes) if isinstance(node, nodes.Concat) else [node]


def _joined(parts: Sequence[nodes.Expr], role: str) -> str:
    return "".join(role if (text := _text(part)) is None else text for part in parts)


def _called(call: nodes.Call) -> str:
    """The plain name that is called, or the empty string."""
    return call.node.name if isinstance(call.node, nodes.Name) else ""


def _expression(node: nodes.Node) -> nodes.Expr:
    """Where jinja2's types say any node, its parser puts an expression."""
    assert isinstance(node, nodes.Expr)
    return node
