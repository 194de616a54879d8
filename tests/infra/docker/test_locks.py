"""The lock files agree with pyproject.toml and constraints.txt, and hold what each tier imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fakes.dockerfile import FOLDER, IMAGES, ROOT

PROGRAMS = {
    "origin": ("origin.__main__", "infra.cli"),
    "edge": ("edge_tier.__main__",),
    "worker": ("gpu_worker.__main__",),
}
OURS = frozenset({"wire", "origin", "edge_tier", "gpu_worker", "infra"})
MACHINE = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    # The oldest that it must do for: Debian 12 has 3.11.2, and a package or two needs more there.
    "python_version": "3.11",
    "python_full_version": "3.11.0",
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\$", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?: \\)?$", re.MULTILINE)
by_image = pytest.mark.parametrize("tier", IMAGES)


def lock(tier: str) -> dict[str, str]:
    """Name → version."""
    text = (FOLDER / f"{tier}.lock").read_text()
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def wanted(tier: str) -> list[Requirement]:
    lines = (FOLDER / f"{tier}.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def declared() -> dict[str, Requirement]:
    """What pyproject.toml says a tier may need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["worker"]]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


@by_image
def test_every_pin_is_the_one_that_the_tests_ran_with(tier: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.partition(";")[0].strip().split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(name): version for name, version in pins.items()}
    assert lock(tier).items() <= tested.items()


@by_image
def test_every_pin_has_hashes_and_nothing_else_is_in_the_file(tier: str) -> None:
    text = (FOLDER / f"{tier}.lock").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) == len(lock(tier))
    for block in blocks:
        assert _HASH.findall(block), block[:80]
    assert len(_HASH.findall(text)) + len(blocks) == len(text.splitlines())


@by_image
def test_what_a_tier_wants_is_declared_and_fits(tier: str) -> None:
    known, pins = declared(), lock(tier)
    for requirement in wanted(tier):
        name = canonicalize_name(requirement.name)
        assert name in known
        assert known[name].specifier.contains(pins[name])


@by_image
def test_a_lock_is_closed_and_holds_nothing_more(tier: str) -> None:
    """Whatever a pinned package requires is pinned too, as the installed ones say."""
    needed: set[str] = set()
    todo = wanted(tier)
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in done:
            continue
        done.add((name, frozenset(requirement.extras)))
        needed.add(name)
        for line in required(name):
            inner = Requirement(line)
            extras = ("", *requirement.extras)
            if inner.marker is None or any(
                inner.marker.evaluate({**MACHINE, "extra": extra}) for extra in extras
            ):
                todo.append(inner)
    assert set(lock(tier)) == needed


def required(name: str) -> list[str]:
    """What an installed package requires; one that only an older Python needs may be missing."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


@by_image
def test_every_import_of_a_tier_is_in_its_lock(tier: str) -> None:
    """Also the imports that wait until they are needed; those of extras are the operator's."""
    owners = metadata.packages_distributions()
    asked = {canonicalize_name(requirement.name) for requirement in wanted(tier)}
    optional = {"numpy", "gguf"} | ({"xllamacpp"} if tier == "origin" else set())
    for module in sorted(third_party(PROGRAMS[tier]) - optional):
        names = {canonicalize_name(owner) for owner in owners.get(module, ())}
        if names & set(declared()):
            assert names & asked, f"{tier}.in lacks {module}"


def third_party(programs: tuple[str, ...]) -> set[str]:
    """The packages that programs import, whether at once or later."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = list(programs)
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        file = module_file(module)
        if file is None:
            continue
        parts = module.split(".")
        todo += [".".join(parts[:n]) for n in range(1, len(parts))]
        for name in imports(file):
            top = name.partition(".")[0]
            if top in OURS:
                todo.append(name)
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None
