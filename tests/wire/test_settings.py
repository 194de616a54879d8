from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wire.errors import ConfigError
from wire.settings import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    cache_bytes: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    port: int = 1
    name: str = "edge"
    sources: tuple[str, ...] = ()
    folder: Path = Path("here")
    inner: Inner = field(default_factory=Inner)
    items: tuple[Item, ...] = ()


def write(path: Path, text: str) -> Path:
    file = path / "headwater.toml"
    file.write_text(text)
    return file


def test_defaults_stand_without_a_file() -> None:
    assert load("edge", Config, file=None, environ={}) == Config()


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[edge]\nport = 2\nname = 'file'\n[edge.inner]\ncache_bytes = 3\n")
    environ = {"HEADWATER_EDGE__PORT": "4", "HEADWATER_EDGE__INNER__CACHE_BYTES": "5"}
    made = load("edge", Config, file=file, environ=environ, overrides={"port": 6, "name": None})
    assert made == Config(port=6, name="file", inner=Inner(cache_bytes=5))


def test_lists_come_from_the_environment_as_json() -> None:
    environ = {"HEADWATER_EDGE__SOURCES": '["http://a", "http://b"]'}
    assert load("edge", Config, file=None, environ=environ).sources == ("http://a", "http://b")


def test_an_array_of_tables_is_a_tuple_of_values(tmp_path: Path) -> None:
    file = write(tmp_path, "[[edge.items]]\nname = 'a'\n[[edge.items]]\nname = 'b'\nsize = 2\n")
    wanted = (Item(name="a"), Item(name="b", size=2))
    assert load("edge", Config, file=file, environ={}).items == wanted
    environ = {"HEADWATER_EDGE__ITEMS": '[{"name": "a"}, {"name": "b", "size": 2}]'}
    assert load("edge", Config, file=None, environ=environ).items == wanted


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("name = 'b'\nsice = 2", r"\[edge\.items\[1\]\] has no key 'sice'; known: name, size"),
        ("size = 2", r"name.*items\[1\]"),
        ("name = 'b'\nsize = 'x'", r"items\[1\]\.size"),
    ],
)
def test_a_bad_value_in_an_array_of_tables_is_named(tmp_path: Path, table: str, named: str) -> None:
    file = write(tmp_path, f"[[edge.items]]\nname = 'a'\n[[edge.items]]\n{table}\n")
    with pytest.raises(ConfigError, match=named):
        load("edge", Config, file=file, environ={})


def test_other_sections_do_not_leak_in() -> None:
    environ = {"HEADWATER_WORKER__PORT": "9"}
    assert load("edge", Config, file=None, environ=environ).port == 1


@pytest.mark.parametrize(
    ("text", "environ", "named"),
    [
        ("[edge]\nport = 'x'", {}, "port"),
        ("edge = 3", {}, "table"),
        ("[edge", {}, "TOML"),
        ("", {"HEADWATER_EDGE__PORT": "many"}, "port"),
        ("", {"HEADWATER_EDGE__SOURCES": "[1"}, "JSON"),
        ("", {"HEADWATER_EDGE__PORT__DEEP": "1", "HEADWATER_EDGE__PORT": "1"}, "below"),
    ],
)
def test_a_bad_value_is_named(
    tmp_path: Path, text: str, environ: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        load("edge", Config, file=write(tmp_path, text), environ=environ)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prot"):
        load("edge", Config, file=write(tmp_path, "[edge]\nprot = 1"), environ={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load("edge", Config, file=tmp_path / "nowhere.toml", environ={})
