"""Compiled kernels: the decorators, and where their machine code is kept.

Numba's own cache does not notice that a kernel calls a function in another file that has
changed. So the cache folder's name is a hash of this file and of every one that has kernels:
change one, and all compile again; otherwise a start loads them in milliseconds.
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core import ir as numba_ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typed_passes import NoPythonSupportedFeatureValidation
from numba.experimental import structref
from numba.extending import intrinsic, register_jitable
from numba.np.arrayobj import make_array

__all__ = [
    "Array",
    "Held",
    "entry_kernel",
    "inlined_kernel",
    "inner_kernel",
    "kernel",
    "prefetch",
    "shared_kernel",
    "short_kernel",
]

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


@register_pass(mutates_CFG=False, analysis_only=False)
class _CountFromTheStart(FunctionPass):
    """Takes indexes into arrays for unsigned numbers.

    Numba lets a negative index count from the end, as Python does, and pays for it with a compare
    and a choice wherever a number is read: a twelfth of a restart. No kernel uses it.
    """

    _name = "count_from_the_start"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> Any:
        for node, signature in list(state.calltypes.items()):
            if signature is not None and _is_indexing(node):
                base, index, *rest = signature.args
                if isinstance(base, types.Array):
                    del state.calltypes[node]  # what stands there can't be written over
                    args = (base, _unsigned(index), *rest)
                    state.calltypes[node] = signature.replace(args=args)
        return True


def _is_indexing(node: Any) -> bool:
    if isinstance(node, numba_ir.Expr):
        return node.op in ("getitem", "static_getitem")
    return isinstance(node, numba_ir.SetItem | numba_ir.StaticSetItem)


def _unsigned(index: Any) -> Any:
    if isinstance(index, types.Integer):
        return types.uint64
    if hasattr(index, "types"):
        return types.Tuple([_unsigned(each) for each in index.types])
    return index


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_CountFromTheStart, NoPythonSupportedFeatureValidation)
        passes.finalize()
        return [passes]


_njit: Any = partial(numba.njit, cache=True, pipeline_class=_Compiler)


def kernel(function: _F) -> _F:
    """Compile `function` at its first call, without the interpreter lock, cached on disk."""
    compiled: Any = _njit(nogil=True, _nrt=True)(function)
    return compiled


def inner_kernel(function: _F) -> _F:
    """Compile a function that makes and returns no arrays, only works on those it is given.

    It counts no references to them, nor to what it slices out of them: each count is an atomic
    instruction, and they took a third of the fold of features.
    """
    compiled: Any = _njit(nogil=True, _nrt=False)(function)
    return compiled


def inlined_kernel(function: _F) -> _F:
    """Write an inner kernel out wherever it is called, and compile it there only.

    A call hands over seven words and more of each array; those of whole tables went to the stack
    and took a third of the state's fold.
    """
    compiled: Any = _njit(nogil=True, _nrt=False, inline="always")(function)
    return compiled


def short_kernel(function: _F) -> _F:
    """Compile a function of a few microseconds, which every request calls.

    It keeps the interpreter lock: under load, giving it up and waiting to get it back took 40 of
    a decision's 60 microseconds. Every call must have the types of the first.
    """
    return _typed_once(_njit(_nrt=True)(function))


def entry_kernel(function: _F) -> _F:
    """Compile a function that is handed whole tables, without the interpreter lock. Every call
    must have the types of the first."""
    return _typed_once(_njit(nogil=True, _nrt=True)(function))


def _typed_once(compiled: Any) -> Any:
    """Look up the types of a kernel's arguments at the first call only: for tuples of arrays it
    took as long as a page's decision, and 0.1 of the 0.7 ms of a first pass."""
    entry: Any = None

    def call(*arguments: Any) -> Any:
        nonlocal entry
        if entry is not None:
            return entry(*arguments)
        result = compiled(*arguments)
        entry = compiled.get_overload(compiled.signatures[0])
        return result

    return call


@structref.register
class _HeldType(types.StructRef):
    """What kernels know of `Held`."""


class Held(structref.StructRefProxy):
    """Tables that were handed to compiled code once: a kernel that is given it finds them in
    `held.tables`. Taking forty arrays at each call took a tenth of a page read.

    The arrays live as long as this does, so kernels count no references to them, which would be
    two atomic instructions for each array at each call.
    """

    alive: Any

    def __new__(cls, tables: Any) -> "Held":
        """Hand over a tuple of arrays, or of such tuples."""
        held: Held = _hold(tables)
        held.alive = tables
        return held


structref.define_proxy(Held, _HeldType, ["tables"])


def _disown(context: Any, builder: Any, of_type: Any, value: Any) -> Any:
    if isinstance(of_type, types.Array):
        array = make_array(of_type)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        return array._getvalue()
    if hasattr(of_type, "types"):
        parts = zip(of_type.types, cgutils.unpack_tuple(builder, value), strict=True)
        disowned = [_disown(context, builder, each, part) for each, part in parts]
        return context.make_tuple(builder, of_type, disowned)
    return value


def _build_borrowed(_context: Any, tables: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _disown(context, builder, signature.args[0], values[0])

    return tables(tables), build


_borrowed: Final[Any] = intrinsic(_build_borrowed)
"""The same tables, of which no references are counted."""


@kernel
def _hold(tables: Any) -> Any:
    return Held(_borrowed(tables))


def shared_kernel(function: _F) -> _F:
    """Leave a function of a few numbers to Python as it is, and compile it into kernels that call
    it: for a rule that both follow."""
    return register_jitable(function)


def _build_prefetch(_context: Any, array: Any, _row: Any, _cell: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        shaped = make_array(signature.args[0])(context, builder, values[0])
        strides = cgutils.unpack_tuple(builder, shaped.strides)
        offset = reduce(builder.add, map(builder.mul, values[1:], strides))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.gep(builder.bitcast(shaped.data, byte), [offset])
        of_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, of_type, "llvm.prefetch.p0")
        builder.call(ask, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), build


prefetch: Final[Any] = intrinsic(_build_prefetch)
"""Asks memory for `array[row, cell]` and does not wait for it; `cell` is 0 where an array has only
rows."""
