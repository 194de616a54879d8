"""A static site in the whole system: published by the command, rolled under load, read by curl."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from infra.cli import app
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.sites import page, text, write_site

SITE = "docs-site"
ROLLS = 4


def run(fleet: Fleet, *arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--state-dir", str(fleet.state.root), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def publish(fleet: Fleet, folder: Path, *more: str) -> dict[str, Any]:
    return run(fleet, "publish", str(folder), "--kind", "static", "--model", SITE, *more)


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urlopen(Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def curl(*arguments: str) -> bytes:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", *arguments], capture_output=True, timeout=60, check=True
    )
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {**page(0), "docs/index.html": text("docs"), "404.html": b"<h1>nothing</h1>"}
    return write_site(tmp_path / "dist", files)


def test_a_site_is_published_and_read_through_an_edge(
    fleet: Fleet, folder: Path, tmp_path: Path
) -> None:
    done = publish(fleet, folder)
    assert done["address"] == f"/assets/{SITE}/"
    base = f"{fleet.urls.edge}/assets/{SITE}"
    eventually(lambda: get(f"{base}/")[2].get("x-model-digest") == done["revision"])
    assert curl(f"{base}/docs", "--location") == text("docs")
    assert curl(f"{base}/docs/", "--compressed") == text("docs")
    raw = curl(f"{base}/docs/", "-H", "Accept-Encoding: gzip")
    assert gzip.decompress(raw) == text("docs")
    assert curl(f"{base}/docs/", "-r", "5-9") == text("docs")[5:10]
    status, body, headers = get(f"{base}/nowhere")
    assert (status, body) == (404, b"<h1>nothing</h1>")
    first = get(f"{base}/docs/")
    assert first[2]["Cache-Status"] == "headwater-edge; hit"
    assert get(f"{base}/docs/", **{"If-None-Match": first[2]["ETag"]})[0] == 304
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    # The origin offers its files as artifacts, and no site: its console lives there.
    assert get(f"{fleet.urls.origin}/assets/{SITE}/")[0] == 404
    # It is no model to anybody.
    listed = json.loads(
        get(f"{fleet.urls.edge}/v1/models", Authorization=f"Bearer {fleet.local.api_key}")[1]
    )
    assert SITE not in {model["id"] for model in listed["data"]}
    pulled = run(fleet, "pull", SITE, "--to", str(tmp_path / "pulled"), "--from", fleet.urls.edge)
    assert (Path(pulled["path"]) / "docs/index.html").read_bytes() == text("docs")
    assert gzip.decompress((Path(pulled["path"]) / "docs/index.html.gz").read_bytes()) == text(
        "docs"
    )


def test_every_answer_under_a_roll_is_whole_and_old_pages_find_their_scripts(
    fleet: Fleet, tmp_path: Path
) -> None:
    builds = [page(number) for number in range(ROLLS)]
    known = {build["index.html"]: number for number, build in enumerate(builds)}
    base = f"{fleet.urls.edge}/assets/{SITE}"
    publish(fleet, write_site(tmp_path / "0", builds[0]))
    eventually(lambda: get(f"{base}/")[1] == builds[0]["index.html"])
    stop, wrong, seen, asked = threading.Event(), list[str](), set[int](), [0]

    def browse() -> None:
        """A page, and what it asks for: the script of the same build, however late."""
        while not stop.is_set():
            status, markup, headers = get(f"{base}/")
            number = known.get(markup)
            asked[0] += 1
            if status != 200 or number is None:
                wrong.append(f"page: {status} {markup[:80]!r}")
                continue
            seen.add(number)
            found = re.search(rb"src=(\S+\.js)>", markup)
            assert found is not None
            name = found[1].decode()
            status, script, headers = get(f"{base}/{name}")
            if (status, script) != (200, builds[number][name]):
                wrong.append(f"script of build {number}: {status} {headers}")

    with ThreadPoolExecutor(4) as pool:
        browsing = [pool.submit(browse) for _ in range(4)]
        try:
            for number in range(1, ROLLS):
                publish(fleet, write_site(tmp_path / str(number), builds[number]))
                eventually(lambda number=number: number in seen)  # type: ignore[misc]
            eventually(lambda: asked[0] > 20)
        finally:
            stop.set()
        for one in browsing:
            one.result(30)
    assert wrong == []
    assert seen == set(range(ROLLS))
    run(fleet, "rollback", SITE, "--watch")
    eventually(lambda: get(f"{base}/")[1] == builds[-2]["index.html"])
    for build in builds[1:]:  # the page that was rolled back is open somewhere, too
        name = next(path for path in build if path.endswith(".js"))
        assert get(f"{base}/{name}")[:2] == (200, build[name])


def test_upkeep_knows_sites(fleet: Fleet, folder: Path) -> None:
    publish(fleet, folder)
    (folder / "docs/index.html").write_bytes(text("changed"))
    preview = publish(fleet, folder, "--channel", "preview")
    found = run(fleet, "diff", f"{SITE}@stable", f"{SITE}@preview")
    changed = {file["path"] for file in found["files"] if file["change"] == "changed"}
    assert changed == {f"docs/index.html{end}" for end in ("", ".gz", ".br", ".zst")}
    assert run(fleet, "verify")["missing"] == []
    kept = run(fleet, "gc")
    assert kept["removed_chunks"] == 0
    revisions = fleet.status("origin")["revisions"]
    assert {"model": SITE, "revision": preview["revision"], "kind": "static"} in revisions
