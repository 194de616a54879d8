"""The shipped configuration of nginx, read by nginx."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from infra.nginx import FOLDER
from tests.fakes.cdn import nginx_files, program
from wire.http_routes import SHORT

CONF = (FOLDER / "headwater.conf").read_text()
KEYS = (
    "$headwater_key",
    "/artifacts/channels/$headwater_site/$headwater_channel",
    '"$headwater_path $headwater_encoding$headwater_pointer"',
)


def test_nginx_takes_it(tmp_path: Path) -> None:
    main = nginx_files(tmp_path, "http://127.0.0.1:9", 8_080)
    argv = [program("nginx"), "-t", "-e", str(tmp_path / "e.log"), "-p", str(tmp_path)]
    ran = subprocess.run([*argv, "-c", str(main)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "[warn]" not in ran.stderr


def test_the_whole_configuration_is_taken_with_the_shipped_site(tmp_path: Path) -> None:
    """As somebody installs it: only the folder of the cache is another."""
    for name in ("headwater.conf", "listen.conf", "nginx.conf"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    site = (FOLDER / "site.conf").read_text()
    (tmp_path / "site.conf").write_text(site.replace("/var/cache/nginx", str(tmp_path)))
    main = tmp_path / "nginx.conf"
    temps = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main.write_text(f"pid {tmp_path}/pid;\n" + main.read_text().replace("http {", "http {" + temps))
    argv = [program("nginx"), "-t", "-e", str(tmp_path / "e.log"), "-p", str(tmp_path)]
    ran = subprocess.run([*argv, "-c", str(main)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_no_secret_is_shipped_that_works() -> None:
    """Whoever forgets to set one has a cache that nobody can refresh, not one that all can."""
    lines = [line.strip() for line in (FOLDER / "site.conf").read_text().splitlines()]
    assert '# "~^SECRET$" "yes";' in lines
    assert [line for line in lines if line.startswith('"~')] == []


def test_pointers_are_kept_for_less_than_their_max_age() -> None:
    """nginx counts whole seconds, and lets one more pass."""
    assert "max-age=5," in SHORT
    kept = {int(seconds) for seconds in re.findall(r"proxy_cache_valid 200 (\d+)s;", CONF)}
    assert kept == {4}


def test_what_is_judged_of_an_answer_is_judged_of_each() -> None:
    """Before a static file its channel's pointer is asked for, in the same request: that this one
    is public must say nothing of that one."""
    maps = re.findall(r"map \"?\$upstream_[^{]*\{\n\s*(\S+)", CONF)
    assert maps == ["volatile;"] * 3


def test_every_cached_location_keeps_to_the_same_rules() -> None:
    """A location that sets one of these itself no longer inherits the common one."""
    locations = re.findall(r"location [^{]*\{(.*?)\n    \}", CONF, re.DOTALL)
    assert len(locations) >= 9
    for body in locations:
        assert "proxy_set_header" not in body
        assert "add_header" not in body
        for told in re.findall(r"proxy_no_cache ([^;]+);", body):
            assert told == "0" or "$headwater_unshared $headwater_failed" in told
        if "proxy_cache headwater;" in body:
            assert [key for key in KEYS if f"proxy_cache_key {key};" in body]
