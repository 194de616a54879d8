"""JSON merge patches (RFC 7396): what changed between two documents. Pure.

``apply(document, diff(document, new)) == new`` for documents in which no object holds a null: in a
patch null means gone. Values are those of JSON: objects are dicts, arrays lists or tuples.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct

Json = Any


def apply(document: Json, patch: Json) -> Json:
    """The document after a patch; neither is changed. As RFC 7396 section 2 has it."""
    if not isinstance(patch, dict):
        return patch
    patched = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            patched.pop(name, None)
        else:
            patched[name] = apply(patched.get(name), value)
    return patched


def diff(old: Json, new: Json) -> Json:
    """What turns ``old`` into ``new``; ``{}`` where they are the same object."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    patch: dict[str, Json] = {}
    for name, value in new.items():
        before = old.get(name, UNSET)
        if before is not value and before != value:
            patch[name] = _changed(before, value)
    for name in old.keys() - new.keys():
        patch[name] = None
    return patch


def diff_structs(old: Struct, new: Struct) -> dict[str, Any]:
    """The same of two structs of one type, without making dicts of what has not changed. Fields
    that are ``UNSET`` are absent; structs inside the patch are encoded whole."""
    patch: dict[str, Any] = {}
    for name in new.__struct_fields__:
        before, value = getattr(old, name), getattr(new, name)
        if before is not value and before != value:
            patch[name] = _changed(before, value)
    return patch


def _changed(before: Any, value: Any) -> Any:
    if value is UNSET:
        return None
    if isinstance(value, Struct):
        return diff_structs(before, value) if type(before) is type(value) else value
    return diff(before, value)


encode = msgspec.json.Encoder().encode
"""A document or patch as JSON."""
