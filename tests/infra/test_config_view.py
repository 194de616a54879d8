from __future__ import annotations

from pathlib import Path

import pytest

from infra.config_view import flatten, show_in_force
from wire.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text(
        "[origin]\nport = 7400\nstore = '/data'\n[origin.events]\nping_s = 3\n", encoding="utf-8"
    )
    return path


def test_every_value_says_who_set_it(file: Path) -> None:
    environ = {"HEADWATER_ORIGIN__DRAIN_S": "2", "HEADWATER_ORIGIN__EVENTS__RETRY_MIN_S": "1"}
    found = show_in_force(["origin"], file, environ=environ).tiers["origin"]
    assert (found["store"].value, found["store"].origin) == ("/data", "file")
    assert (found["drain_s"].value, found["drain_s"].origin) == (2.0, "environment")
    assert (found["events.ping_s"].value, found["events.ping_s"].origin) == (3.0, "file")
    assert found["events.retry_min_s"].origin == "environment"
    assert found["io_threads"].origin == "default"


def test_a_value_that_equals_the_default_still_came_from_the_file(file: Path) -> None:
    assert show_in_force(["origin"], file, environ={}).tiers["origin"]["port"].origin == "file"


def test_a_whole_table_in_the_environment_sets_all_below_it(file: Path) -> None:
    environ = {"HEADWATER_ORIGIN__EVENTS": '{"ping_s": 9}'}
    found = show_in_force(["origin"], file, environ=environ).tiers["origin"]
    assert (found["events.ping_s"].value, found["events.ping_s"].origin) == (9.0, "environment")


def test_only_what_was_changed_can_be_asked_for(file: Path) -> None:
    found = show_in_force(["origin"], file, environ={}, changed=True).tiers["origin"]
    assert sorted(found) == ["events.ping_s", "port", "store"]


def test_without_a_file_all_is_default() -> None:
    found = show_in_force(["origin"], None, environ={})
    assert {setting.origin for setting in found.tiers["origin"].values()} == {"default"}
    assert found.as_dict()["file"] is None


def test_passwords_in_urls_are_not_shown() -> None:
    environ = {"HEADWATER_ORIGIN__STORE": "s3://user:hunter2@bucket/prefix"}
    shown = show_in_force(["origin"], None, environ=environ).as_dict()
    assert shown["origin"]["store"] == {"value": "s3://***@bucket/prefix", "from": "environment"}


def test_a_wrong_value_is_named_by_its_path(file: Path) -> None:
    with pytest.raises(ConfigError, match="drain_s"):
        show_in_force(["origin"], file, environ={"HEADWATER_ORIGIN__DRAIN_S": "soon"})


def test_nested_tables_get_dotted_names() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": []}, "e": {}}) == {"a.b.c": 1, "a.d": [], "e": {}}
