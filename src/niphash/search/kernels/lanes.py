# mypy: ignore-errors
"""A loop written in vectors, where the compiler would use half of the processor's width.

LLVM makes 256-bit vectors of loops for processors that could do 512; what is written in vectors of 512 bits
keeps its width, and is divided where the processor has less.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

#: Codes of one vector, and vectors of one call.
LANES, VECTORS = 32, 8
HALVES = 4  # 16-bit words of a code
_half, _word, _index = ir.IntType(16), ir.IntType(64), ir.IntType(32)
_vector = ir.VectorType(_half, LANES)


@intrinsic
def any_nearer(context, halves, start, query, limit):
    """Tell whether one of 256 codes from ``start`` on differs from a query in less than ``limit`` bits.

    ``halves`` uint16 [4, n] are the codes by words, ``query`` uint16 [4]. Returns uint64, a bit for each of
    32 columns of codes.
    """

    def generate(context, builder, signature, arguments):
        codes = context.make_array(signature.args[0])(context, builder, arguments[0])
        row = builder.udiv(builder.extract_value(codes.strides, 0), _word(2))
        words = [builder.gep(codes.data, [builder.mul(row, _word(h))]) for h in range(HALVES)]
        asked = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        queries = [_repeated(builder, builder.load(builder.gep(asked, [_word(h)]))) for h in range(HALVES)]
        least = None
        for v in range(VECTORS):
            place = builder.add(arguments[1], _word(v * LANES))
            distance = None
            for word, query in zip(words, queries, strict=True):
                pointer = builder.bitcast(builder.gep(word, [place]), _vector.as_pointer())
                ones = _count_ones(builder, builder.xor(builder.load(pointer, align=2), query))
                distance = ones if distance is None else builder.add(distance, ones)
            least = distance if least is None else _lesser(builder, distance, least)
        below = builder.icmp_unsigned("<", least, _repeated(builder, arguments[3]))
        return builder.zext(builder.bitcast(below, ir.IntType(LANES)), _word)

    return types.uint64(halves, types.int64, query, types.uint16), generate


def _repeated(builder, value):
    undefined = ir.Constant(_vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(_index, LANES), [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(undefined, value, _index(0)), undefined, first)


def _count_ones(builder, values):
    name = f"llvm.ctpop.v{LANES}i16"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(_vector, [_vector]), name)
    return builder.call(function, [values])


def _lesser(builder, left, right):
    return builder.select(builder.icmp_unsigned("<", left, right), left, right)
