"""Compiled kernels: the two decorators, and where their machine code is kept.

Numba's own cache does not notice that a kernel calls a function in another file that has
changed. So the cache folder's name is a hash of this file and of every one that has kernels:
change one, and all compile again; otherwise a start loads them in milliseconds.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

__all__ = ["Array", "kernel", "short_kernel"]

Array = Any
"""A NumPy array inside a kernel, whose elements are numbers to it: what the type checker cannot
follow. Shape and type are in the kernel's docstring or those of the columns it comes from."""

_F = TypeVar("_F", bound=Callable[..., Any])


def _source_hash() -> str:
    package = Path(__file__).parent
    digest = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8)
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"kernel\ndef " in source:
            digest.update(source)
    return digest.hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onhand" / "kernels" / _source_hash()


if not os.environ.get("NUMBA_CACHE_DIR"):
    setattr(config, "CACHE_DIR", str(_cache_folder()))  # noqa: B010 (not a declared attribute)


def kernel(function: _F) -> _F:
    """Compile `function` at its first call, without the interpreter lock, cached on disk."""
    compiled: Any = numba.njit(cache=True, nogil=True)(function)
    return compiled


def short_kernel(function: _F) -> _F:
    """Compile a function of a few microseconds, which every request calls.

    It keeps the interpreter lock: under load, giving it up and waiting to get it back took 40 of
    a decision's 60 microseconds. And it looks up the types of its arguments at the first call
    only, which for tuples of arrays took as long as the work: every call must have the types of
    the first.
    """
    compiled: Any = numba.njit(cache=True)(function)
    entry: Any = None

    def call(*arguments: Any) -> Any:
        nonlocal entry
        if entry is not None:
            return entry(*arguments)
        result = compiled(*arguments)
        entry = compiled.get_overload(compiled.signatures[0])
        return result

    untyped: Any = call
    return untyped
