"""Runs somebody else's program so that it does not outlive the worker:
``python -P guarded.py PARENT_PID PROGRAM ARGUMENTS…``.

The guard becomes the program (``execvp``), so it costs no process. On Linux the kernel then kills
the program when the worker ends in any way (``prctl(2)``: PR_SET_PDEATHSIG outlives ``execve``); on
other systems a worker that is killed leaves it behind. Imports nothing of the worker, so it starts
quickly.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_NOT_FOUND = 127


def guarded(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that runs ``argv`` under guard of this process."""
    return (sys.executable, "-P", __file__, str(os.getpid()), *argv)


def main(parent_pid: int, argv: list[str]) -> int:
    """Become the program; returns only where that cannot be."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return 1
    # A crash must be known at once, not after gigabytes of core have been written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a shell would only stand between
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the log
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
