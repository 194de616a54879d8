"""The sandbox in which chat templates run, and what it gives them.

jinja2's immutable sandbox with the settings and the few globals that Hugging Face and llama.cpp
agree on. What only hostile templates do (reaching for ``__globals__``) raises here, instead of
giving an undefined value; time and memory are for the caller to bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from wire.bundle import BundleInvalidError
from wire.errors import RequestInvalidError
from wire.template_dialect import adapt, trim
from wire.template_marks import ROLES

Turn = tuple[str, str]
"""Role and content. ``developer`` counts as ``system``."""
Now = Callable[[], datetime]

_RENDERING_ERRORS = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip


class Sandbox(ImmutableSandboxedEnvironment):
    """Where chat templates are parsed, compiled and rendered."""

    def __init__(self, now: Now) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            cache_size=0,
        )
        self.now = now
        self.globals.pop("lipsum", None)
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: now().strftime(form)
        self.filters["tojson"] = _to_json
        self.filters["trim"] = trim

    def read(self, source: str) -> tuple[nodes.Template, list[str]]:
        """The parsed template, and what llama.cpp may render otherwise.

        Raises:
            TemplateError: the template is no jinja2 template.
        """
        tree = self.parse(source)
        return tree, adapt(tree)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise SecurityError(f"{type(obj).__name__}.{attribute} is out of reach for a template")


class Renderer:
    """A parsed template, compiled, with the variables that all its renderings share.

    Args:
        dated: whether the template finds ``date_string`` and ``datetime``.

    Raises:
        TemplateError: the template does not compile.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        tree: nodes.Template,
        variables: Mapping[str, str | bool],
        *,
        dated: bool = True,
    ) -> None:
        self.asked = meta.find_undeclared_variables(tree)
        """The names that the template looks up."""
        self._dated = dated and bool(self.asked & {"date_string", "datetime"})
        self._variables = variables
        self._now = sandbox.now
        self._template = sandbox.from_string(tree)
        self._sayings = {
            node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)
        }

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt, up to where the assistant begins.

        Raises:
            RequestInvalidError: the template refuses these messages, or cannot show them.
            BundleInvalidError: the template reaches for what it must not have.
        """
        variables: dict[str, Any] = {**self._variables, "messages": messages}
        if self._dated:
            today = self._now()
            variables["date_string"] = today.strftime("%d %b %Y")
            variables["datetime"] = today.strftime("%b %d %Y")
        try:
            return self._template.render(variables)
        except SecurityError as error:
            raise BundleInvalidError(f"the chat template was stopped: {error}") from None
        except _RENDERING_ERRORS as error:
            raise RequestInvalidError(self._explained(error)) from None

    def _explained(self, error: Exception) -> str:
        """The template's own words, unless they may repeat a prompt."""
        said = str(error) if isinstance(error, _RefusalError) else ""
        reason = said if said in self._sayings else type(error).__name__
        return f"the model's chat template cannot show these messages: {reason}"


def messages_of(turns: Sequence[Turn], *, system_role: bool) -> list[dict[str, str]]:
    """The messages as llama.cpp hands them to a template.

    A template without a system role gets a leading system message as part of the next one.

    Raises:
        RequestInvalidError: a role that no template knows.
    """
    messages = []
    for role, content in turns:
        known = "system" if role == "developer" else role
        if known not in ROLES:
            raise RequestInvalidError(f"role {role[:32]!r} of a message is none of {ROLES}")
        messages.append({"role": known, "content": content})
    if not system_role and messages and messages[0]["role"] == "system":
        leading = messages.pop(0)["content"]
        if messages:
            messages[0]["content"] = f"{leading}\n{messages[0]['content']}"
    return messages


class _RefusalError(TemplateError):
    """What ``raise_exception`` of a template raises."""


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's words for training; rendering ignores it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise _RefusalError(str(message))


def _to_json(value: Any, indent: int | None = None) -> str:
    """Not escaped for HTML as jinja2's own is: a prompt is no page."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
