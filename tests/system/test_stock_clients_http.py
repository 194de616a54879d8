"""curl, wget and aria2: ranges, resume, conditions and tokens, against an origin and an edge."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.facades import StockTiers, make_model, stock_tiers, weights_of
from tests.fakes.stock_clients import environment, program, relay, run
from wire.catalog import commit_of

PUBLIC = make_model("chat", size=8_000_000)
PRIVATE = make_model("secret", seed=1)
NAME, DATA = weights_of(PUBLIC)
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockTiers]:
    with stock_tiers(tmp_path_factory.mktemp("tiers")) as tiers:
        tiers.publish(PUBLIC)
        tiers.publish(PRIVATE, private=True)
        yield tiers


@pytest.fixture(params=["origin", "edge"])
def endpoint(request: pytest.FixtureRequest, tiers: StockTiers) -> str:
    return tiers.origin_url if request.param == "origin" else tiers.edge_url


@pytest.fixture(params=["hub", "artifacts"])
def url(request: pytest.FixtureRequest, endpoint: str) -> str:
    """A file by the name that people know, and by ours."""
    if request.param == "hub":
        return f"{endpoint}/headwater/chat/resolve/main/{NAME}"
    return f"{endpoint}/artifacts/files/{PUBLIC.id}/{NAME}"


def curl(*arguments: str) -> str:
    """What curl writes to stdout."""
    ran = run(program("curl"), "-sSL", *arguments)
    assert ran.code == 0, ran.err
    return ran.out


def status(*arguments: str) -> str:
    return curl("-o", "/dev/null", "-w", "%{http_code}", *arguments)


def test_curl_gets_a_file_and_ranges_of_it(url: str, tmp_path: Path) -> None:
    file = tmp_path / "got"
    for given, part, code in (
        ((), DATA, "200"),
        (("-r", "99999-100000"), DATA[99_999:100_001], "206"),
        (("-r", "-5"), DATA[-5:], "206"),
        (("-r", "7999999-"), DATA[-1:], "206"),
    ):
        assert curl("-o", str(file), "-w", "%{http_code}", *given, url) == code
        assert file.read_bytes() == part
    assert status("-r", "8000000-", url) == "416"


def test_curl_revalidates_and_is_never_sent_a_compressed_file(url: str, tmp_path: Path) -> None:
    assert status("-H", f"If-None-Match: {ETAG}", url) == "304"
    file = tmp_path / "got"
    assert curl("--compressed", "-o", str(file), "-w", "%{http_code}", url) == "200"
    assert file.read_bytes() == DATA
    headers = curl("-I", "-H", "Accept-Encoding: gzip, br, zstd", url).lower()
    assert "content-encoding" not in headers
    assert f"content-length: {len(DATA)}" in headers
    assert "accept-ranges: bytes" in headers


def test_curl_resumes_what_is_still_the_same_and_begins_anew_otherwise(
    url: str, tmp_path: Path
) -> None:
    file = tmp_path / "got"
    file.write_bytes(DATA[:3_000_000])
    assert curl("-C", "-", "-o", str(file), "-w", "%{http_code}", url) == "206"
    assert file.read_bytes() == DATA
    part = ("-r", "10-19", "-H")
    assert status(*part, f"If-Range: {ETAG}", url) == "206"
    assert status(*part, 'If-Range: "another"', url) == "200"


def test_wget_resumes(url: str, tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(DATA[:1_234_567])
    env = environment(tmp_path)
    ran = run(program("wget"), "-c", "-O", str(file), url, env=env)
    assert ran.code == 0, ran.err
    assert "206 Partial Content" in ran.err
    assert file.read_bytes() == DATA


def test_wget_comes_back_after_a_broken_connection(endpoint: str, tmp_path: Path) -> None:
    file = tmp_path / NAME
    env = environment(tmp_path)
    path = f"/headwater/chat/resolve/main/{NAME}"
    with relay(endpoint, free_bytes=2_000_000) as slow:
        argv = (program("wget"), "--waitretry=0", "-T", "1", "-t", "20", "-O", str(file))
        client = subprocess.Popen((*argv, slow.url + path), env=env, stderr=subprocess.PIPE)
        assert slow.held.wait(20)  # wget gives up on what says nothing for a second
        _, notes = client.communicate(timeout=60)
    assert client.returncode == 0, notes
    assert notes.count(b"206 Partial Content") >= 2
    assert file.read_bytes() == DATA


def test_aria2_puts_a_file_together_from_parallel_ranges(url: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    checked = ("--check-integrity=true", f"--checksum=sha-256={digest}")
    parallel = ("-x8", "-s8", "-k1M", "--allow-overwrite=true", "--console-log-level=notice")
    where = ("-d", str(tmp_path), "-o", "got", url)
    ran = run(program("aria2c"), *parallel, *checked, *where, env=environment(tmp_path))
    assert ran.code == 0, ran.said
    assert (tmp_path / "got").read_bytes() == DATA


def test_aria2_resumes(url: str, tmp_path: Path) -> None:
    (tmp_path / "got").write_bytes(DATA[:5_000_000])
    where = ("-c", "-d", str(tmp_path), "-o", "got", url)
    ran = run(program("aria2c"), *where, env=environment(tmp_path))
    assert ran.code == 0, ran.said
    assert (tmp_path / "got").read_bytes() == DATA


def test_a_private_file_needs_the_header(endpoint: str, tiers: StockTiers) -> None:
    name, _ = weights_of(PRIVATE)
    hub = f"{endpoint}/headwater/secret/resolve/main/{name}"
    fixed = f"{endpoint}/artifacts/files/{PRIVATE.id}/{name}"
    manifest = f"{endpoint}/artifacts/manifests/{PRIVATE.id}"
    right, wrong = tiers.token("secret"), tiers.token("other")
    for url, refused in ((hub, "401"), (fixed, "404"), (manifest, "404")):
        assert status(url) == refused
        assert status("-H", "Authorization: Bearer hf_" + "x" * 40, url) == refused
        assert status("-H", f"Authorization: Bearer {right}", url) == "200"
        assert status("-u", f"me:{right}", url) == "200"
    assert status("-H", f"Authorization: Bearer {wrong}", hub) == "403"
    assert status("-H", f"Authorization: Bearer {wrong}", fixed) == "404"


def test_no_shared_cache_may_keep_what_is_private(endpoint: str, tiers: StockTiers) -> None:
    name, _ = weights_of(PRIVATE)
    token = ("-H", f"Authorization: Bearer {tiers.token('secret')}")
    for path in (
        f"headwater/secret/resolve/main/{name}",
        f"artifacts/files/{PRIVATE.id}/{name}",
        f"artifacts/manifests/{PRIVATE.id}",
        "api/models/headwater/secret",
        "api/models/headwater/secret/refs",
        "api/models/headwater/secret/tree/main",
        "v2/headwater/secret/manifests/latest",
    ):
        kept = ("-o", "/dev/null", "-w", "%{http_code} %header{cache-control}")
        assert curl(*kept, *token, f"{endpoint}/{path}") == "200 private, no-store", path
        refused = curl(*kept, f"{endpoint}/{path}")
        assert refused[:3] in {"401", "404"}
        assert "no-store" in refused


def test_curl_stays_on_its_revision_through_a_roll(
    endpoint: str, tiers: StockTiers, tmp_path: Path
) -> None:
    old, new = (make_model("large", seed=seed, size=6_000_000) for seed in (2, 3))
    tiers.publish(old)
    file, (name, data) = tmp_path / "got", weights_of(old)
    with relay(endpoint, free_bytes=500_000) as slow:
        argv = (program("curl"), "-sSL", "-o", str(file), "-w", "%{url_effective}")
        url = f"{slow.url}/headwater/large/resolve/main/{name}"
        client = subprocess.Popen((*argv, url), stdout=subprocess.PIPE)
        assert slow.held.wait(20)
        tiers.publish(new)
        slow.gate.set()
        effective, _ = client.communicate(timeout=60)
    assert file.read_bytes() == data
    # What was interrupted is resumed at the address where it ended up.
    file.write_bytes(data[:1_000_000])
    assert commit_of(old.id) in effective.decode()
    again = effective.decode().replace(slow.url, endpoint)
    assert curl("-C", "-", "-o", str(file), "-w", "%{http_code}", again) == "206"
    assert file.read_bytes() == data
    assert curl(f"{endpoint}/headwater/large/resolve/main/{name}", "-o", str(file)) == ""
    assert file.read_bytes() == weights_of(new)[1]
