"""What the kernels are made of: population counts, heaps, and how a kernel is declared.

A kernel is compiled for one signature, so no other types can set off a compilation in the middle of a
query. It releases the GIL, which is how searches use all cores: plain threads, each with its own part of
the codes. (A parallel region of numba's own would need a threading layer, and those do not survive a fork.)

numba looks for changes only in the file of a kernel itself: touch the other files when this one changes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: A result is one integer, distance * 2**ROW_BITS + row; the order of integers is the order of results.
ROW_BITS = np.uint64(40)

#: Kernels and the signatures that they are compiled for.
KERNELS: list[tuple[Any, tuple[Any, ...]]] = []


def array(dtype: Any, ndim: int, readonly: bool = True) -> types.Array:
    """Return the type of a C-ordered array; a read-only one takes writable arrays too, and memory maps."""
    return types.Array(dtype, ndim, "C", readonly=readonly)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call."""
    return _jit(function)


def kernel(*signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Declare a function that Python calls, and the types of its arguments."""

    def declare(function: Callable[..., Any]) -> Any:
        dispatcher = _jit(function)
        KERNELS.append((dispatcher, signature))
        return dispatcher

    return declare


def _jit(function: Callable[..., Any]) -> Any:
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder can hold numba's cache: every process compiles for itself
        return njit(nogil=True, error_model="numpy")(function)


@intrinsic
def popcount(context: Any, value: Any) -> Any:
    """Count the ones of an unsigned integer; of its own type, which keeps loops over it vectorisable."""
    return value(value), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


def _prefetch(locality: int) -> Any:
    """Return a function that asks for a cache line; with locality 3 the first cache, with 2 the second."""

    @intrinsic
    def prefetch(context: Any, values: Any, index: Any) -> Any:
        """Ask the processor for the cache line of ``values[index]``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            address = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
            function = builder.module.declare_intrinsic(
                "llvm.prefetch",
                [pointer],
                ir.FunctionType(ir.VoidType(), [pointer, number, number, number]),
            )
            builder.call(function, [address, number(0), number(locality), number(1)])
            return context.get_dummy_value()

        return types.void(values, index), generate

    return prefetch


prefetch = _prefetch(3)
#: Of what is needed after much else.
prefetch_late = _prefetch(2)


@inner
def replace_largest(heap, value):  # type: ignore[no-untyped-def]
    """Put ``value`` in the place of the root of a max-heap."""
    size, place = heap.size, 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value
