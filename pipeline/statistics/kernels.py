"""What kernels are written with: machine code at the first call, and lanes, floats that one instruction takes side by side.

Not here: any kernel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[Any]

MAGNITUDE = np.int64(2**63 - 1)
INFINITY = np.int64(0x7FF << 52)
SMALLEST = np.int64(-(2**63))


def compiled(function: Function) -> Function:
    """`function` as machine code, made at its first call and cached on disk; it runs without the interpreter's lock."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no directory that can be written to, as in a read-only container: compile in every process
        return cast(Function, numba.njit(nogil=True)(function))


def inlined(function: Function) -> Function:
    """`function` as a part of every compiled function that calls it: long chains of calls take long to compile."""
    return cast(Function, numba.njit(inline="always")(function))


class Lanes(numba.types.Type):
    """Compiled code's type of `count` floats, or truth values, side by side; `+ - * & < <= ==` go lane by lane.

    They become the vectors that a processor has, or several of them, or single floats, with the same bits everywhere. Loops
    over scalars become vectors only where LLVM can prove enough, and thinks that it pays.
    """

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(f"Lanes({element}, {count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are an LLVM vector."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.IntType(1) if lanes.element is numba.types.boolean else manager.lookup(lanes.element).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))  # type: ignore[no-untyped-call]


def _operator(function: Callable[..., Any], compares: bool = False) -> Callable[[Function], Function]:
    """Have compiled code do `function` of two lanes alike with the instruction that is emitted."""

    def type_of(context: Any) -> Callable[..., Any]:
        def result(left: Any, right: Any) -> Any:
            if not isinstance(left, Lanes) or left != right:
                return None
            return Lanes(numba.types.boolean, left.count) if compares else left

        return result

    def register(emit: Function) -> Function:
        type_callable(function)(type_of)
        lower_builtin(function, Lanes, Lanes)(  # type: ignore[no-untyped-call]
            lambda context, builder, signature, values: emit(builder, *values)
        )
        return emit

    return register


@_operator(operator.add)
def _add(builder: Any, left: Any, right: Any) -> Any:
    return builder.fadd(left, right)


@_operator(operator.sub)
def _subtract(builder: Any, left: Any, right: Any) -> Any:
    return builder.fsub(left, right)


@_operator(operator.mul)
def _multiply(builder: Any, left: Any, right: Any) -> Any:
    return builder.fmul(left, right)


@_operator(operator.and_)
def _both(builder: Any, left: Any, right: Any) -> Any:
    return builder.and_(left, right)


@_operator(operator.lt, compares=True)
def _less(builder: Any, left: Any, right: Any) -> Any:
    return builder.fcmp_ordered("<", left, right)


@_operator(operator.le, compares=True)
def _at_most(builder: Any, left: Any, right: Any) -> Any:
    return builder.fcmp_ordered("<=", left, right)


@_operator(operator.eq, compares=True)
def _equal(builder: Any, left: Any, right: Any) -> Any:
    return builder.fcmp_ordered("==", left, right)


def _instructions(define: Callable[..., Any]) -> Any:
    """A function of compiled code, from one that gives its signature and what emits it for the types of its arguments."""
    return intrinsic(prefer_literal=True)(define)


@_instructions
def load(typing_context: Any, array: Any, at: Any, count: Any) -> Any:
    """`load(array, at, count)`: the `count` floats (a literal) that begin at index `at` of a contiguous array."""
    lanes = Lanes(array.dtype, count.literal_value)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, values, context.get_value_type(lanes))
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return lanes(array, numba.types.int64, count), emit


@_instructions
def store(typing_context: Any, array: Any, at: Any, lanes: Any) -> Any:
    """`store(array, at, lanes)`: put floats where they begin at index `at` of a contiguous array."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, values, values[2].type)
        builder.store(values[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.int64, lanes), emit


@_instructions
def fill(typing_context: Any, value: Any, like: Any) -> Any:
    """`fill(value, like)`: the same float in every lane, as many as `like` has."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector, index = values[1].type, ir.IntType(32)
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, values[0], ir.Constant(index, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, like.count), [0] * like.count))

    return like(like.element, like), emit


@_instructions
def cast_to(typing_context: Any, lanes: Any, like: Any) -> Any:
    """`cast_to(lanes, like)`: the numbers as floats of the type that those of `like` have."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one, vector = values[0], values[1].type
        if one.type == vector:
            return one
        widens = like.element.bitwidth > lanes.element.bitwidth
        return builder.fpext(one, vector) if widens else builder.fptrunc(one, vector)

    return like(lanes, like), emit


@_instructions
def some(typing_context: Any, which: Any) -> Any:
    """`some(which)`: whether any lane holds."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = ir.IntType(which.count)
        return builder.icmp_unsigned("!=", builder.bitcast(values[0], bits), ir.Constant(bits, 0))

    return numba.types.boolean(which), emit


@_instructions
def choose(typing_context: Any, which: Any, one: Any, other: Any) -> Any:
    """`choose(which, one, other)`: of `one` where `which` holds, else of `other`."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(*values)

    return one(which, one, other), emit


@_instructions
def magnitude(typing_context: Any, lanes: Any) -> Any:
    """`magnitude(lanes)`: without their signs."""
    return lanes(lanes), _calling("llvm.fabs", lanes)


@_instructions
def multiply_add(typing_context: Any, one: Any, other: Any, added: Any) -> Any:
    """`multiply_add(one, other, added)`: one·other + added, for exact results: whether it rounds once or twice is left open."""
    return added(one, other, added), _calling("llvm.fmuladd", added)


def _pointer(context: Any, builder: Any, array: Any, values: Any, vector: Any) -> Any:
    """Where a vector lies in an array; `values` are the array, the index and others."""
    data = context.make_array(array)(context, builder, values[0]).data
    return builder.bitcast(builder.gep(data, [values[1]]), vector.as_pointer())


def _calling(name: str, lanes: Lanes) -> Callable[..., Any]:
    """What emits a call of LLVM's function `name` of vectors."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = context.get_value_type(lanes)
        full_name = f"{name}.v{lanes.count}f{lanes.element.bitwidth}"
        function = builder.module.globals.get(full_name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * len(values)), full_name)
        return builder.call(function, values)

    return emit
