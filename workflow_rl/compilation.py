"""How functions are compiled: on first use, and kept on disk where there is a place to keep them.

numba stores compiled code beside the source or, if that is read-only, in the user's cache directory. Where
neither can be written it refuses at import (`cannot cache function`), which would make the package unusable
there; this module finds out once, and then everything is compiled anew in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def _is_cache_writable() -> bool:
    """Whether numba finds a directory for the compiled code of this package."""
    try:
        njit(cache=True)(_is_cache_writable)
    except RuntimeError:
        return False
    return True


_CACHE = _is_cache_writable()


def compiled(function: _Function) -> _Function:
    """Decorator of every compiled function. Types are checked as if it were not there.

    Compiled functions may call each other and hold no Python objects; they are inlined where that pays, and
    other threads of Python go on while they run.
    Floating point follows IEEE 754 to the letter (numba's `fastmath` stays off), so results are the same on
    every machine.
    """
    return cast(_Function, njit(cache=_CACHE, nogil=True)(function))
