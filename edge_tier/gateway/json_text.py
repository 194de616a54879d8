"""JSON text with its characters written out (RFC 8259 section 7).

An engine that parses the arguments of a call or a list of tools sees ``<`` where the text has its
number in an escape. So what is looked for must be looked for in the text without such escapes. This
works on the text alone: no nesting is too deep for it, numbers stay as they are, and it takes what
is no JSON.
"""

from __future__ import annotations

import json
import re

_ESCAPE = re.compile(r"(?s)\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|.)")
_FIRST_PRINTABLE = 0x20


def without_escapes(text: str) -> str:
    """``text`` with only those escapes that JSON cannot do without, in their shortest form."""
    return _ESCAPE.sub(_written_out, text) if "\\" in text else text


def escaped(text: str) -> str:
    """``text`` as it stands in a JSON string after :func:`without_escapes`."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _written_out(match: re.Match[str]) -> str:
    if match[1] is None:
        return "/" if match[0] == r"\/" else match[0]
    code = int(match[1], 16)
    if match[2] is not None and 0xD800 <= code < 0xDC00:
        return chr(0x10000 + (code - 0xD800) * 0x400 + int(match[2], 16) - 0xDC00)
    rest = f"\\u{match[2]}" if match[2] is not None else ""
    if 0xD800 <= code < 0xE000:
        return match[0]
    char = chr(code)
    return (escaped(char) if code < _FIRST_PRINTABLE or char in '"\\' else char) + rest
