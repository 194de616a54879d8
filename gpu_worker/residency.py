"""How much of the weights is in memory already, and what that means for loading them.

After a pull the page cache holds every byte; after a boot from a cold disk it holds none. Linux
tells: cachestat(2) from 6.5 on for a whole file at once, mincore(2) for samples of it before.

Mapping uses those pages themselves: nothing is copied, a second engine on the same file shares
them, and the kernel may drop them. Reading makes a copy of its own, which nobody else can use.
Measured (2 cores, 2.6 GB, llama.cpp on the CPU, to the first token; ``make bench-coldstart``):
where all is resident, mapping takes about half as long as reading; where nothing is, both take
between 2 and 6 s from run to run, and neither wins. So the processor maps, always. A GPU copies
every byte once and then needs the pages no more: what is cold it reads, in large requests and
through pinned buffers, instead of fault by fault.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MOSTLY = 0.5
"""Share of the bytes from which on a file counts as resident."""
_CACHESTAT = 451
"""The system call's number, on every architecture."""
_SAMPLES = 256
_SAMPLE_PAGES = 16
_GPUS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


@dataclass(frozen=True, slots=True)
class Loading:
    """How an engine is to load a file, and why."""

    mmap: bool
    reason: str

    def __str__(self) -> str:
        return f"{'mmap' if self.mmap else 'read'}: {self.reason}"


def choose_loading(
    resident: float | None,
    *,
    on_gpu: bool,
    in_memory: bool = False,
    room_bytes: int = 1 << 62,
    size: int = 0,
) -> Loading:
    """Whether to map the weights or to read them.

    Args:
        resident: share of their bytes in the page cache, 0 to 1; None where nobody tells.
        on_gpu: layers go to a GPU with memory of its own.
        in_memory: they stand on a file system in memory.
        room_bytes: main memory that could be had.
        size: of the weights, in bytes.
    """
    if in_memory:
        return Loading(True, "they stand in memory; reading would hold them twice")
    if resident is None:
        return Loading(True, "nobody tells how much is resident")
    share = f"{resident:.0%} of the bytes are resident"
    if resident >= MOSTLY:
        return Loading(True, share)
    if not on_gpu:
        return Loading(True, f"{share}, but the processor uses the pages themselves")
    if size > room_bytes:
        return Loading(True, f"{share}, but {room_bytes} B of memory do not take {size} B more")
    return Loading(False, f"{share}, and the GPU needs each of them once")


def gpu_present(devices: Iterable[Path] = _GPUS) -> bool:
    """Whether the machine has a GPU with memory of its own (NVIDIA's or AMD's driver is up)."""
    return any(device.exists() for device in devices)


def resident_share(
    paths: Iterable[Path], count: Callable[[int, int], int | None] | None = None
) -> float | None:
    """Which share of the files' bytes is in the page cache; None where nobody tells. Blocking, for
    well under a millisecond for each GB.

    Args:
        count: descriptor and size → resident bytes, or None.
    """
    counted = count or _resident_bytes
    resident = total = 0
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            size = os.fstat(handle).st_size
            found = counted(handle, size) if size else 0
        finally:
            os.close(handle)
        if found is None:
            return None
        resident, total = resident + min(found, size), total + size
    return resident / total if total else None


def _resident_bytes(handle: int, size: int) -> int | None:
    found = by_cachestat(handle)
    return found if found is not None else by_mincore(handle, size)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recent")
    )


def by_cachestat(handle: int) -> int | None:
    """Bytes of a file in the page cache; None where the kernel has no cachestat(2)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syscall", None)
    if call is None or not Path("/proc").exists():
        return None
    whole, counts = _Range(0, 0), _Counts()
    if call(_CACHESTAT, handle, ctypes.byref(whole), ctypes.byref(counts), 0):
        return None
    return int(counts.cache) * mmap.PAGESIZE


def by_mincore(handle: int, size: int) -> int | None:
    """Bytes of a file in the page cache, from samples spread over it; None where that fails."""
    window = _SAMPLE_PAGES * mmap.PAGESIZE
    count = min(_SAMPLES, -(-size // window))
    seen = resident = 0
    for number in range(count):
        offset = (size - 1) // window * number // max(1, count - 1) * window
        length = min(window, size - offset)
        try:
            pages = _mincore(handle, offset, length)
        except OSError:
            return None
        seen, resident = seen + len(pages), resident + sum(page & 1 for page in pages)
    return size * resident // seen if seen else None


def _mincore(handle: int, offset: int, length: int) -> bytes:
    """One byte for each page. A private mapping that nobody writes to shows the file's pages."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    with mmap.mmap(handle, length, access=mmap.ACCESS_COPY, offset=offset) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        pages = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
        failed = call(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(length), pages)
        del first  # the mapping cannot be closed while something points into it
        if failed:
            raise OSError(ctypes.get_errno(), "mincore failed")
        return bytes(pages)
