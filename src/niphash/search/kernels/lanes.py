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


def _any_nearer(count):
    """Return a function that looks at the first ``count`` words of codes."""

    @intrinsic
    def any_nearer(context, halves, start, query, limit):
        """Tell whether the words of one of 256 codes from ``start`` on differ from a query's in too few bits.

        ``halves`` uint16 [4, n] are the codes by words, ``query`` uint16 [4]. Returns uint64, a bit for each
        of 32 columns of codes: one of them differs in less than ``limit`` bits.
        """

        def generate(context, builder, signature, arguments):
            codes = context.make_array(signature.args[0])(context, builder, arguments[0])
            row = builder.udiv(builder.extract_value(codes.strides, 0), _word(2))
            words = [builder.gep(codes.data, [builder.mul(row, _word(h))]) for h in range(count)]
            asked = context.make_array(signature.args[2])(context, builder, arguments[2]).data
            queries = [_repeated(builder, builder.load(builder.gep(asked, [_word(h)]))) for h in range(count)]
            least = None
            for v in range(VECTORS):
                place = builder.add(arguments[1], _word(v * LANES))
                distance = None
                for word, query in zip(words, queries, strict=True):
                    ones = _count_ones(builder, builder.xor(_load(builder, word, place), query))
                    distance = ones if distance is None else builder.add(distance, ones)
                least = distance if least is None else _lesser(builder, distance, least)
            below = builder.icmp_unsigned("<", least, _repeated(builder, arguments[3]))
            return builder.zext(builder.bitcast(below, ir.IntType(LANES)), _word)

        return types.uint64(halves, types.int64, query, types.uint16), generate

    return any_nearer


any_nearer = _any_nearer(HALVES)
#: By fewer words, a lower bound of the distance.
any_nearer_of_two, any_nearer_of_three = _any_nearer(2), _any_nearer(3)


@intrinsic
def split_words(context, codes, start, halves, place):
    """Write the words of 32 codes uint64, from ``start`` on, to ``halves`` uint16 [4, n] at ``place``."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        first = builder.bitcast(builder.gep(data, [arguments[1]]), _half.as_pointer())
        # 8 codes a vector: the same word of all of them together, a fourth of a vector each
        grouped = [h + HALVES * code for h in range(HALVES) for code in range(LANES // HALVES)]
        four = []
        for v in range(HALVES):
            loaded = _load(builder, first, _word(v * LANES))
            four.append(_shuffled(builder, loaded, loaded, grouped))
        split = context.make_array(signature.args[2])(context, builder, arguments[2])
        row = builder.udiv(builder.extract_value(split.strides, 0), _word(2))
        quarter = LANES // HALVES
        for h in range(HALVES):
            ours = [h * quarter + i for i in range(quarter)]
            theirs = [LANES + i for i in ours]
            low = _shuffled(builder, four[0], four[1], [*ours, *theirs, *ours, *theirs])
            high = _shuffled(builder, four[2], four[3], [*ours, *theirs, *ours, *theirs])
            both = _shuffled(builder, low, high, [*range(LANES // 2), *range(LANES, LANES + LANES // 2)])
            at = builder.gep(split.data, [builder.add(builder.mul(row, _word(h)), arguments[3])])
            builder.store(both, builder.bitcast(at, _vector.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(codes, types.int64, halves, types.int64), generate


def _load(builder, base, place):
    return builder.load(builder.bitcast(builder.gep(base, [place]), _vector.as_pointer()), align=2)


def _shuffled(builder, left, right, places):
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_index, len(places)), places))


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
