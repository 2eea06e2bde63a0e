"""How soon a process that wakes up gets a core that another one is using.

A worker that waited for its environment needs a core for some fifty microseconds; the learner computes for
tenths of a second. Linux shares a core in slices, and since version 6.12 a process may say how long its own
are: one that asks for short slices interrupts one with long slices, and gets no larger share of the core by
that (Documentation/scheduler/sched-eevdf.rst, "PREEMPT_SHORT" in kernel/sched/features.h). Older kernels
accept the wish and do nothing.
"""

from __future__ import annotations

import ctypes
import platform
import sys

_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Number of the system call sched_setattr(2), which Python does not offer, by machine."""

_KEEP_POLICY = 0x08
"""SCHED_FLAG_KEEP_POLICY: who runs a training as a batch job has reasons."""


class _Attributes(ctypes.Structure):
    """`struct sched_attr` in its first version, see sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("niceness", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("slice_nanoseconds", ctypes.c_uint64),
        ("deadline_nanoseconds", ctypes.c_uint64),
        ("period_nanoseconds", ctypes.c_uint64),
    )


def ask_for_slices_of(nanoseconds: int, niceness: int) -> bool:
    """Ask for time slices of this length for the calling thread, and those it starts.

    Args:
        nanoseconds: the kernel takes 100,000 to 100,000,000.
        niceness: that the thread has; the call sets both.

    Returns:
        Whether the system took the wish; it knows it on Linux only.
    """
    number = _SET_ATTRIBUTES.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    attributes = _Attributes(
        size=ctypes.sizeof(_Attributes),
        flags=_KEEP_POLICY,
        niceness=niceness,
        slice_nanoseconds=nanoseconds,
    )
    system = ctypes.CDLL(None)
    return bool(system.syscall(number, 0, ctypes.byref(attributes), 0) == 0)
