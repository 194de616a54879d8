from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_tier.gateway.audit import AuditConfig, AuditError, AuditLog
from wire.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(file: Path) -> AuditLog:
    return AuditLog(AuditConfig(file=file, fsync=False))


def write(log: AuditLog, subject: str = "k1") -> None:
    log.write("key:a", "keys.revoke", subject, "done", "r1")


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """No file may grow above this: write(2) fails in the middle, as on a full disk. Logs are
    caught, for they too would be written to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        with capture_logs():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_act_stands_there_before_it_is_done(log: AuditLog, file: Path) -> None:
    with log.act(actor="key:a", action="keys.create", subject="t", request_id="r") as act:
        assert [record.outcome for record in log.newest(9)] == ["begun"]
        act.subject = "k9"
    with (
        pytest.raises(KeyError),
        log.act(actor="key:a", action="keys.revoke", subject="x", request_id="r"),
    ):
        raise KeyError
    outcomes = [(record.seq, record.subject, record.outcome) for record in log.newest(9)]
    assert outcomes == [(1, "t", "begun"), (2, "k9", "done"), (3, "x", "begun"), (4, "x", "failed")]
    assert file.stat().st_mode & 0o777 == 0o600
    assert log.verify().problem == ""


def test_a_full_disk_refuses_the_act_and_leaves_the_log_whole(log: AuditLog, file: Path) -> None:
    write(log)
    whole, done = file.read_bytes(), []
    with full_disk(len(whole) + 40), pytest.raises(AuditError, match="refused"):  # noqa: SIM117
        with log.act(actor="a", action="b", subject="c", request_id="d"):
            done.append(1)
    assert done == []
    assert file.read_bytes() == whole
    write(log)
    assert log.verify().records == 2


def test_an_outcome_that_finds_no_room_leaves_the_act_begun(log: AuditLog, file: Path) -> None:
    write(log)
    with (
        full_disk(2 * file.stat().st_size + 60),
        log.act(actor="key:a", action="keys.revoke", subject="k1", request_id="r1"),
    ):
        pass
    assert [record.outcome for record in log.newest(9)] == ["done", "begun"]


def test_processes_share_one_chain(file: Path) -> None:
    def work(_: int) -> None:
        write(AuditLog(AuditConfig(file=file, fsync=False)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    report = AuditLog(AuditConfig(file=file)).verify()
    assert (report.records, report.head_seq, report.problem) == (40, 40, "")


def test_a_line_cut_by_a_crash_is_removed(log: AuditLog, file: Path) -> None:
    write(log)
    with file.open("ab") as stream:
        stream.write(b'{"seq":2,"ti')
    write(log)
    assert (log.verify().records, log.verify().problem) == (2, "")


def test_a_log_rotates_and_the_chain_goes_on(file: Path) -> None:
    log = AuditLog(AuditConfig(file=file, fsync=False, max_bytes=65_536, keep_files=2))
    for _ in range(400):
        write(log, "s" * 2000)
    report = log.verify()
    assert report.problem == ""
    assert report.head_seq == 400
    assert 1 < report.first_seq < 400
    assert len(list(file.parent.glob("audit.jsonl.[0-9]*"))) == 2
    assert [record.seq for record in log.newest(100)][-2:] == [399, 400]


def test_a_log_open_to_others_takes_nothing(log: AuditLog, file: Path) -> None:
    write(log)
    file.chmod(0o644)
    with pytest.raises(AuditError, match="chmod 600"):
        write(log)


def test_a_last_line_that_is_no_record_takes_nothing(log: AuditLog, file: Path) -> None:
    write(log)
    with file.open("ab") as stream:
        stream.write(b"hello\n")
    with pytest.raises(AuditError, match="no record"):
        write(log)
    assert "not a record" in log.verify().problem


def test_a_link_is_not_followed(log: AuditLog, file: Path) -> None:
    other = file.with_name("other")
    other.touch(0o600)
    file.symlink_to(other)
    with pytest.raises(AuditError):
        write(log)
    assert other.read_bytes() == b""


@pytest.mark.parametrize("config", [AuditConfig(max_bytes=1), AuditConfig(keep_files=0)])
def test_bounds_that_cannot_be_are_refused(config: AuditConfig) -> None:
    with pytest.raises(ConfigError, match="audit"):
        AuditLog(config)
