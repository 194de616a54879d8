"""What is wrong with a folder of Terraform, as far as that shows without its provider: names that
nobody declared or uses, descriptions that are missing, arguments that a module or a resource does
not take, secrets that are not marked or stand in the text, versions that are not pinned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import hcl2

from tests.fakes.linode_provider import META, RESOURCES

_REFERENCE = re.compile(r"\b(var|local|module)\.([A-Za-z_]\w*)(?:(?:\[[^\]]*\])?\.([A-Za-z_]\w*))?")
_RESOURCE = re.compile(r"\b(linode_\w+)\.([a-z]\w*)")
_SECRET_NAME = re.compile(r"(secret|password|passphrase|_key$|token|credentials|enrolment_url)")
_SECRET_TEXT = re.compile(r"-----BEGIN|\b[0-9a-f]{64}\b|AKIA[0-9A-Z]{16}")
_MODULE_META = {"source", "for_each", "count", "providers", "depends_on", "version"}


@dataclass
class Module:
    """One folder of ``.tf`` files."""

    folder: Path
    text: str = ""
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    locals: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: list[dict[str, Any]] = field(default_factory=list)


def read(folder: Path) -> Module:
    """A module. Comments are no part of its text."""
    module = Module(folder)
    for path in sorted(folder.glob("*.tf")):
        found = _parsed(path.read_text())
        module.text += "\n".join(_strings(found)) + "\n"
        for block in found.get("variable", ()):
            module.variables |= block
        for block in found.get("locals", ()):
            module.locals |= block
        for block in found.get("output", ()):
            module.outputs |= block
        for block in found.get("module", ()):
            module.calls |= block
        for block in found.get("resource", ()):
            for kind, named in block.items():
                module.resources += [(kind, name, body) for name, body in named.items()]
        module.settings += found.get("terraform", [])
    return module


@lru_cache
def _parsed(text: str) -> Any:
    """Most files are the same in each test, and the parser is slow."""
    return plain(hcl2.loads(text))


def plain(value: Any) -> Any:
    """What python-hcl2 gives, without its own marks and the quotes of strings."""
    if isinstance(value, dict):
        return {
            plain(key): plain(inner)
            for key, inner in value.items()
            if not str(key).startswith("__")
        }
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def problems(folder: Path) -> list[str]:
    """Everything that is wrong, a line each; of the modules that it calls, too."""
    root = read(folder)
    found = list(_of_module(root))
    for name, call in root.calls.items():
        called = read((folder / call["source"]).resolve())
        found += _of_call(folder.name, name, call, called, root)
    for inner in sorted(folder.glob("modules/*")):
        found += _of_module(read(inner))
        if not any((folder / call["source"]).resolve() == inner for call in root.calls.values()):
            found.append(f"{inner.name}: nobody calls this module")
    return found


def _of_module(module: Module) -> Iterator[str]:
    where = module.folder.name
    declared = {"var": set(module.variables), "local": set(module.locals)}
    declared["module"] = set(module.calls)
    used: dict[str, set[str]] = {kind: set() for kind in declared}
    for kind, name, _ in _REFERENCE.findall(module.text):
        used[kind].add(name)
    # A validation says var.x of itself: that is no use.
    elsewhere = _text_without_variables(module)
    for kind in ("var", "local", "module"):
        yield from (
            f"{where}: {kind}.{name} is not declared" for name in used[kind] - declared[kind]
        )
    used_vars = {name for kind, name, _ in _REFERENCE.findall(elsewhere) if kind == "var"}
    yield from (f"{where}: var.{name} is not used" for name in declared["var"] - used_vars)
    yield from (f"{where}: local.{name} is not used" for name in declared["local"] - used["local"])
    yield from _of_names(where, module)
    yield from _of_resources(where, module)
    if not any("required_version" in block for block in module.settings):
        yield f"{where}: no required_version"
    for block in module.settings:
        for providers in block.get("required_providers", ()):
            for name, wanted in providers.items():
                if not re.match(r"(~>|=) ?\d+\.\d+", str(wanted.get("version", ""))):
                    yield f"{where}: provider {name} is not pinned"
    if _SECRET_TEXT.search(module.text):
        yield f"{where}: a secret stands in the text"


def _of_names(where: str, module: Module) -> Iterator[str]:
    for kind, named in (("variable", module.variables), ("output", module.outputs)):
        for name, body in named.items():
            if len(str(body.get("description", ""))) < 10:
                yield f"{where}: {kind} {name} has no description"
            if _SECRET_NAME.search(name) and body.get("sensitive") is not True:
                yield f"{where}: {kind} {name} is not marked as sensitive"
    for name, body in module.variables.items():
        if "type" not in body:
            yield f"{where}: variable {name} has no type"


def _of_resources(where: str, module: Module) -> Iterator[str]:
    declared = {(kind, name) for kind, name, _ in module.resources}
    for reference in set(_RESOURCE.findall(module.text)) - declared:
        yield f"{where}: {'.'.join(reference)} is not declared"
    for kind, name, body in module.resources:
        if kind not in RESOURCES:
            yield f"{where}: {kind} is not a resource that we know"
            continue
        for path in _paths(body):
            if path not in RESOURCES[kind]:
                yield f"{where}: {kind}.{name} takes no {path}"


def _paths(body: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in body.items():
        if name == "dynamic" and isinstance(value, list):
            for block in value:
                for inner, dynamic in block.items():
                    yield f"{above}{inner}"
                    for content in dynamic.get("content", ()):
                        yield from _paths(content, f"{above}{inner}.")
        elif not (not above and name in META):
            yield f"{above}{name}"
            if isinstance(value, list) and value and isinstance(value[0], dict):
                for block in value:
                    yield from _paths(block, f"{above}{name}.")


def _of_call(
    where: str, name: str, call: Mapping[str, Any], called: Module, root: Module
) -> Iterator[str]:
    given = set(call) - _MODULE_META
    for argument in given - set(called.variables):
        yield f"{where}: module {name} takes no {argument}"
    for argument, body in called.variables.items():
        if "default" not in body and argument not in given:
            yield f"{where}: module {name} wants {argument}"
    for kind, module, output in _REFERENCE.findall(root.text):
        if kind == "module" and module == name and output and output not in called.outputs:
            yield f"{where}: module {name} has no output {output}"


def _text_without_variables(module: Module) -> str:
    parts: list[Any] = [module.locals, module.outputs, module.calls]
    parts += [body for _, _, body in module.resources]
    return "\n".join(_strings(parts))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
