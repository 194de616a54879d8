"""``commands.md``: what ``--help`` says of every command, in one page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from infra.cli import app

_HEAD = """# Commands

What `headwater … --help` says, drawn from the code. Each command takes `--json`. Exit status: 0
done, 1 failed, 2 usage or configuration, 130 interrupted.
"""


def draw_commands() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    return "\n".join([_HEAD, *_all(root, "headwater")])


def _all(command: Any, name: str) -> Iterator[str]:
    """A command, then those below it, in the order of the code."""
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield _command(command, name)
    for word, one in inner.items():
        yield from _all(one, f"{name} {word}")


def _command(command: Any, name: str) -> str:
    usage = " ".join([name, *filter(None, map(_argument, command.params))])
    text = inspect.cleandoc((command.help or "").replace("\b", ""))
    parts = [f"## {name}\n", f"`{usage} [OPTIONS]`\n", f"{_prose(text)}\n"]
    rows = [row for param in command.params if (row := _option(param))]
    if rows:
        parts.append("| option | |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Paragraphs, and the example as a block."""
    body, _, example = text.partition("Example:")
    lines = inspect.cleandoc(example).strip()
    return body.strip() + (f"\n\n```\n{lines}\n```" if lines else "")


def _argument(param: Any) -> str:
    if param.param_type_name != "argument":
        return ""
    word = getattr(param, "metavar", None) or str(param.name).upper()
    return word if param.required else f"[{word}]"


def _option(param: Any) -> str:
    """A row; empty for arguments and what is hidden."""
    text = getattr(param, "help", "") or ""
    if param.param_type_name == "argument" or getattr(param, "hidden", False):
        return ""
    names = " ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    return f"| {names} | {' '.join(text.split()).replace('|', chr(92) + '|')} |"
