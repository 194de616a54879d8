"""docs/quickstart.md, done as its reader does it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from openai import OpenAI

from infra.commands.options import DEFAULT_STATE_DIR
from infra.commands.up import up
from origin.console.routes import API, OWN_HEADER
from tests.fakes.headwater import ROOT
from tests.fakes.markdown import commands_of
from tests.fakes.reader import Reader, following

PAGE = "quickstart.md"
TEXT = (ROOT / "docs" / PAGE).read_text()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The whole page, once; the system runs on until the tests are over."""
    pytest.importorskip("xllamacpp")
    with following(PAGE, tmp_path_factory.mktemp("quickstart")) as reader:
        yield reader


def ready(reader: Reader) -> dict[str, str]:
    found: dict[str, str] = json.loads((reader.folder / "ready.json").read_text())
    return found


def test_it_begins_with_a_clone() -> None:
    clone, venv, run, *_ = commands_of(PAGE)
    assert clone.startswith("git clone ")
    assert venv == "make venv"
    assert "venv:" in (ROOT / "Makefile").read_text()
    assert run == ".venv/bin/headwater up"


def test_the_addresses_of_the_page_are_those_that_up_takes() -> None:
    taken = {f":{p.default}" for p in inspect.signature(up).parameters.values() if p.default}
    named = re.findall(r"http://127\.0\.0\.1(:\d+)", TEXT)
    assert len(named) == 2
    assert set(named) <= taken
    assert f"`{DEFAULT_STATE_DIR}/ready.json`" in TEXT


def test_up_prints_where_all_is_and_a_key(reader: Reader) -> None:
    said, told = reader.log.read_text(), ready(reader)
    for name in ("origin", "edge", "worker", "cloud", "api_key"):
        assert told[name] in said
    assert f"{told['origin']}/console" in said
    assert told["admin_token"] not in said


def test_the_question_is_answered_and_it_is_said_why(reader: Reader) -> None:
    said = reader.said("chat")
    assert "Paris" in said
    assert "worker; model=edge-small" in said
    assert "why" in said


def test_all_tiers_are_ready(reader: Reader) -> None:
    said = reader.said("status")
    for tier in ("origin", "edge", "worker", "cloud"):
        assert re.search(rf"^ *{tier} +http\S+ +ready ", said, re.MULTILINE), said


def test_an_openai_client_works_with_every_model_that_is_named(reader: Reader) -> None:
    told = ready(reader)
    with OpenAI(base_url=f"{told['edge']}/v1", api_key=told["api_key"], max_retries=0) as client:
        offered = {model.id for model in client.models.list()}
        assert offered == {"edge-small", "cloud-large", "auto"}
        for model in offered:
            assert f"`{model}`" in TEXT
            answer = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=4
            )
            assert answer.choices[0].message.content


def test_the_console_opens_with_the_token(reader: Reader) -> None:
    told = ready(reader)
    with urlopen(f"{told['origin']}/console", timeout=10) as page:
        assert page.headers.get_content_type() == "text/html"
    login = Request(
        f"{told['origin']}{API}/login",
        data=json.dumps({"token": told["admin_token"]}).encode(),
        headers={OWN_HEADER: "1", "Content-Type": "application/json"},
    )
    with urlopen(login, timeout=10) as answer:
        assert json.load(answer)["logged_in"] is True
