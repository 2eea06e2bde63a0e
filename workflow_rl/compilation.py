"""How functions are compiled: on first use, and kept on disk where there is a place to keep them.

numba stores compiled code beside the source or, if that is read-only, in the user's cache directory. Where
neither can be written it refuses at import (`cannot cache function`), which would make the package unusable
there; this module finds out once, and then everything is compiled anew in every process.

Compiled code holds what it calls and the constants it reads, from whatever file they came. numba takes it for
current as long as the outermost function's own file is unchanged. So it is told what else to look at: the
files of this package that the function's module imports, directly or not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from numba import njit
from numba.core.dispatcher import Dispatcher

_Function = TypeVar("_Function", bound=Callable[..., object])

_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(rb"^from (workflow_rl[\w.]*) import (\w[^\n]*|\([^)]*\))", re.MULTILINE)


def _is_cache_writable() -> bool:
    """Whether numba finds a directory for the compiled code of this package."""
    try:
        njit(cache=True)(_is_cache_writable)
    except RuntimeError:
        return False
    return True


IS_CACHE_WRITABLE = _is_cache_writable()
"""Whether compiled code is kept for the next process."""


def compiled(function: _Function) -> _Function:
    """Decorator of every compiled function. Types are checked as if it were not there.

    Compiled functions may call each other and hold no Python objects; they are inlined where that pays, and
    other threads of Python go on while they run.
    Floating point follows IEEE 754 to the letter (numba's `fastmath` stays off), so results are the same on
    every machine.
    """
    dispatcher = njit(cache=IS_CACHE_WRITABLE, nogil=True)(function)
    if IS_CACHE_WRITABLE and isinstance(dispatcher, Dispatcher):
        cache_file = dispatcher._cache._cache_file  # type: ignore[attr-defined]  # numba's types lack it
        cache_file._source_stamp = _source_digest(function.__module__)
    return cast(_Function, dispatcher)


@cache
def _source_digest(module: str) -> str:
    """A digest of the source files that a module of this package is made of."""
    sources = [_source(name) for name in sorted(_imported_by(module))]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _imported_by(module: str) -> set[str]:
    """The modules of this package that a module imports when it is loaded, directly or not, and itself."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return found


@cache
def _imports(module: str) -> list[str]:
    """What a module imports of this package: modules, and names in them, which have no file of their own."""
    found = []
    for imported in _IMPORT.finditer(_source(module)):
        source, names = imported[1].decode(), re.findall(r"\w+", imported[2].decode())
        found += [source, *(f"{source}.{name}" for name in names)]
    return found


@cache
def _source(module: str) -> bytes:
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.read_bytes()
    return b""
