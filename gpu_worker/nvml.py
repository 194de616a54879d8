"""NVIDIA's GPUs through NVML (``libnvidia-ml.so.1``), the library of the driver that ``nvidia-smi``
uses. No driver, no GPUs: that is no error.

Declarations are those of NVIDIA's ``nvml.h``. A driver that is being reset can hang a call for ever
and no thread can be stopped there, so everything is asked in a daemon thread with a deadline.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

LIBRARY = "libnvidia-ml.so.1"
MAX_GPUS = 64
_NAME_BYTES = 96
_CLOCK_MEM = 2
_OK = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpu:
    """What the driver says of a GPU. ``bandwidth`` in bytes per second, 0 where it does not."""

    index: int
    name: str
    uuid: str
    memory_bytes: int
    free_bytes: int
    bandwidth: float = 0.0


class NvmlError(Exception):
    """A call failed; carries NVML's code."""


class Nvml(Protocol):
    """The calls that are used, each once for each GPU. All raise :class:`NvmlError`."""

    def start(self) -> None: ...

    def count(self) -> int: ...

    def name(self, index: int) -> str: ...

    def uuid(self, index: int) -> str: ...

    def memory(self, index: int) -> tuple[int, int]:
        """All of it, and what is free, in bytes."""
        ...

    def memory_clock_mhz(self, index: int) -> int:
        """The highest."""
        ...

    def bus_bits(self, index: int) -> int: ...

    def stop(self) -> None: ...


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class NvmlLibrary:
    """NVML itself.

    Raises:
        OSError: there is no such library.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._library = ctypes.CDLL(library)

    def start(self) -> None:
        self._call("nvmlInit_v2")

    def count(self) -> int:
        found = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(found))
        return found.value

    def name(self, index: int) -> str:
        return self._text("nvmlDeviceGetName", index)

    def uuid(self, index: int) -> str:
        return self._text("nvmlDeviceGetUUID", index)

    def memory(self, index: int) -> tuple[int, int]:
        found = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._device(index), ctypes.byref(found))
        return found.total, found.free

    def memory_clock_mhz(self, index: int) -> int:
        found = ctypes.c_uint()
        device = self._device(index)
        self._call("nvmlDeviceGetMaxClockInfo", device, _CLOCK_MEM, ctypes.byref(found))
        return found.value

    def bus_bits(self, index: int) -> int:
        found = ctypes.c_uint()
        self._call("nvmlDeviceGetMemoryBusWidth", self._device(index), ctypes.byref(found))
        return found.value

    def stop(self) -> None:
        self._call("nvmlShutdown")

    def _device(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def _text(self, function: str, index: int) -> str:
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._call(function, self._device(index), text, ctypes.c_uint(_NAME_BYTES))
        return text.value.decode("utf-8", "replace")

    def _call(self, function: str, *arguments: object) -> None:
        try:
            entry = getattr(self._library, function)
        except AttributeError as error:  # an older driver
            raise NvmlError(f"{function} is missing") from error
        code = entry(*arguments)
        if code != _OK:
            raise NvmlError(f"{function}: {code}")


def nvidia_gpus(
    open_nvml: Callable[[], Nvml] = NvmlLibrary, *, timeout_s: float = 5.0
) -> tuple[NvidiaGpu, ...]:
    """The GPUs of this machine in the driver's order; none where there is no driver, or it refuses.

    Raises:
        TimeoutError: it does not answer in time.
    """
    found: list[NvidiaGpu] = []
    answered = threading.Event()

    def ask() -> None:
        with suppress(OSError, NvmlError):
            found.extend(_ask(open_nvml))
        answered.set()

    threading.Thread(target=ask, name="nvml", daemon=True).start()
    if not answered.wait(timeout_s):
        raise TimeoutError(f"the NVIDIA driver did not answer within {timeout_s:g} s")
    return tuple(found)


def visible(gpus: tuple[NvidiaGpu, ...], wanted: str | None) -> tuple[NvidiaGpu, ...]:
    """Those that ``CUDA_VISIBLE_DEVICES`` leaves to a process: indices, or beginnings of UUIDs, up
    to the first that is none (CUDA C++ programming guide, environment variables). NVML itself does
    not look at it. None: all."""
    if wanted is None:
        return gpus
    left: list[NvidiaGpu] = []
    for item in wanted.split(","):
        item = item.strip()
        match = [g for g in gpus if (item == str(g.index)) or (item and g.uuid.startswith(item))]
        if not match:
            break
        left.append(match[0])
    return tuple(dict.fromkeys(left))


def _ask(open_nvml: Callable[[], Nvml]) -> list[NvidiaGpu]:
    nvml = open_nvml()
    nvml.start()
    found: list[NvidiaGpu] = []
    try:
        for index in range(min(nvml.count(), MAX_GPUS)):
            with suppress(NvmlError):  # one that fell off the bus must not hide the others
                found.append(_gpu(nvml, index))
    finally:
        nvml.stop()
    return found


def _gpu(nvml: Nvml, index: int) -> NvidiaGpu:
    total, free = nvml.memory(index)
    try:
        # Two transfers a clock: a GDDR6X bus of 384 bit at 10,501 MHz gives 1,008 GB/s.
        bandwidth = 2e6 * nvml.memory_clock_mhz(index) * nvml.bus_bits(index) / 8
    except NvmlError:
        bandwidth = 0.0
    return NvidiaGpu(
        index=index,
        name=nvml.name(index),
        uuid=nvml.uuid(index),
        memory_bytes=total,
        free_bytes=free,
        bandwidth=bandwidth,
    )
