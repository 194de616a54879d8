"""The page ``errors.md``: every error of the tree, drawn from the classes themselves."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.reference.openapi.model import sentence
from wire.errors import HeadwaterError

TIERS = ("wire", "origin", "edge_tier", "gpu_worker", "infra")
_ROOT = Path(__file__).resolve().parents[2]
_DEFINES = re.compile(r"^class \w+\((?:\w+\.)?\w*(?:Error)\b.*\):", re.MULTILINE)
_NAMES = re.compile(r"\b\w+Error\b")
_ADVICE = {
    400: "Mend the request; `detail` says which part.",
    401: "Send a valid credential for this path.",
    403: "Ask with a credential that has the scope, or change the configuration it names.",
    404: "Check the name; `headwater status` lists what there is.",
    405: "Use a method that `Allow` names.",
    406: "Accept the form that `detail` names, or leave `Accept-Encoding` out.",
    408: "Send the body faster, or over a better line.",
    409: "Read the state again, then repeat what still fits.",
    410: "It was taken down on purpose. Use another revision.",
    411: "Send the body with a `Content-Length`.",
    413: "Send less, or raise the limit that `detail` names.",
    416: "Ask for bytes within the size in `Content-Range`.",
    422: "The content itself is refused; make or publish it again.",
    429: "Wait as long as `Retry-After` says.",
    431: "Send fewer or shorter headers.",
    500: "A fault of this tier, or of its configuration: its log has the cause.",
    502: "Something behind this tier failed: look at its upstream, worker or peer.",
    503: "It is not ready or is full: wait for `Retry-After`, or ask another one.",
    507: "Free space, or give the folder a larger disk.",
}
_HEAD = """# Errors

Drawn from the code by `make docs`; do not edit. A code stays the same for ever and means what its
line says; `detail` is for people. Most paths answer problem details (RFC 9457): `status`, `code`,
`detail`. `/v1` answers OpenAI's envelope (`error.code`), the Hub's paths `error` and `code`, the
registry's `errors[0].detail`.

"""


def draw_errors() -> str:
    """The page."""
    by_status: dict[int, list[type[HeadwaterError]]] = {}
    for error in error_classes():
        by_status.setdefault(error.status, []).append(error)
    words = {tier: _words(tier) for tier in TIERS}
    sections = [_section(status, by_status[status], words) for status in sorted(by_status)]
    return _HEAD + "\n".join(sections)


def error_classes() -> list[type[HeadwaterError]]:
    """Every public error of the tiers, by code and name."""
    found: dict[str, type[HeadwaterError]] = {}
    for name in _modules():
        module = importlib.import_module(name)
        for value in vars(module).values():
            if _is_ours(value, name):
                found[f"{value.code} {name}.{value.__name__}"] = value
    return [found[key] for key in sorted(found)]


def _is_ours(value: object, module: str) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, HeadwaterError)
        and value.__module__ == module
        and not value.__name__.startswith("_")
    )


def _modules() -> Iterator[str]:
    """Modules that define an error; the others need not be imported."""
    for tier in TIERS:
        for path in sorted((_ROOT / tier).rglob("*.py")):
            if _DEFINES.search(path.read_text()):
                yield ".".join(path.relative_to(_ROOT).with_suffix("").parts)


def _section(
    status: int, errors: list[type[HeadwaterError]], words: Mapping[str, frozenset[str]]
) -> str:
    rows = [
        f"| `{error.code}` | {sentence(error).replace('|', chr(92) + '|')} "
        f"| {', '.join(_seen_in(error, words))} | `{error.__module__}.{error.__name__}` |"
        for error in errors
    ]
    fault = "whoever asked" if status < 500 else "a peer behind" if status == 502 else "this tier"
    head = f"## {status}\n\nAt fault: {fault}. {_ADVICE.get(status, 'See `detail`.')}\n\n"
    table = "| Code | What it means | Tiers | Class |\n|---|---|---|---|\n"
    return head + table + "\n".join(rows) + "\n"


def _seen_in(error: type[HeadwaterError], words: Mapping[str, frozenset[str]]) -> list[str]:
    """The tiers whose code names this error."""
    own = error.__module__.partition(".")[0]
    if own != "wire":
        return [own]
    return [tier for tier in TIERS if error.__name__ in words[tier]]


def _words(tier: str) -> frozenset[str]:
    """The names of errors that a tier's code mentions."""
    texts = (path.read_text() for path in (_ROOT / tier).rglob("*.py"))
    return frozenset(word for text in texts for word in _NAMES.findall(text))
