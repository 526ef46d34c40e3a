"""Matrix products on one thread, with or without the sigmoid behind them.

OpenBLAS sums a row in an order that depends on where in the matrix the row stands, and packs both matrices at each
call. Here every element is one sum, k = 0, 1, 2 …, whatever stands around it, and the right matrix is packed once:
`pack` cuts it into panels as wide as two vector registers. A tile of the result, ROWS × a panel, stays in registers
while k runs, and through the sigmoid. Numba cannot be brought to do that from loops, so the tile is written with
LLVM's own instructions; the plain Python inside `_make_tile` says the same, and runs where the JIT is off.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = llvm.get_host_cpu_features().get("avx512f", False)
REGISTER = 64 if _WIDE else 32  # bytes; where registers are narrower, LLVM takes two for one
ROWS = 12 if _WIDE else 6  # of a tile: two sums a row, as many as the registers hold

# Beyond ±REACH the sigmoid is 0 or 1 to float32.
REACH = 18.0
# sigmoid(18 t) − ½ ≈ t·P(t²)/Q(t²) on −1…1: minimax fit by iteratively reweighted least squares, error 9e-9, so that
# the rounding of float32 (1e-7) is what remains. All coefficients are positive: no cancellation.
P = (4.499999576092836, 48.74529143627, 102.9394511780, 48.9578855708, 2.55389926)
Q = (1.0, 37.83225744, 169.54911035, 173.85443328, 33.15725797)


def panel_width(dtype) -> int:
    """Return how many columns a panel has: 16 of float32, or 32 where vectors have 512 bits; half of float64."""
    return 2 * REGISTER // np.dtype(dtype).itemsize


class _Vectors:
    """LLVM's instructions on vectors of one type."""

    def __init__(self, builder, scalar, size):
        self.builder, self.size, self.lanes = builder, size, REGISTER // size
        self.type = ir.VectorType(scalar, self.lanes)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * size}"
        self._fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name)

    def constant(self, value):
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def multiply_add(self, x, y, z):
        return self.builder.call(self._fused, [x, y, z])

    def at(self, pointer, offset):
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def load(self, pointer, offset):
        return self.builder.load(self.at(pointer, offset), align=self.size)

    def store(self, value, pointer, offset):
        self.builder.store(value, self.at(pointer, offset), align=self.size)

    def spread(self, value):
        """A vector of one and the same value."""
        nothing, integer = ir.Constant(self.type, ir.Undefined), ir.IntType(32)
        mask = ir.Constant(ir.VectorType(integer, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(nothing, value, integer(0)), nothing, mask)

    def polynomial(self, u, coefficients):
        total = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = self.multiply_add(total, u, self.constant(coefficient))
        return total

    def sigmoid(self, x):
        build = self.builder
        for limit, beyond in ((self.constant(REACH), ">"), (self.constant(-REACH), "<")):
            x = build.select(build.fcmp_ordered(beyond, x, limit), limit, x)  # NaN stays NaN
        t = build.fmul(x, self.constant(1 / REACH))
        u = build.fmul(t, t)
        part = build.fdiv(build.fmul(t, self.polynomial(u, P)), self.polynomial(u, Q))
        return build.fadd(part, self.constant(0.5))


def _make_tile(rows, with_sigmoid):
    """Return the product of `rows` rows and a panel, for compiled code."""

    def tile(left, row, packed, panel, bias, out):
        """out[row + r, columns of the panel] = left[row + r] · packed[panel] for each of the tile's rows r.

        With the sigmoid: sigmoid(that + bias), float32, to 2e-7. Without it, `bias` is not read.
        """
        width = packed.shape[2]
        columns = slice(panel * width, (panel + 1) * width)
        for r in range(row, row + rows):
            sums = (left[r][:, None] * packed[panel]).sum(axis=0)
            out[r, columns] = (
                sums if not with_sigmoid else 1 / (1 + np.exp(-np.clip(sums + bias[columns], -REACH, REACH)))
            )

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        arrays = {}
        for name, place in {"left": 0, "packed": 2, "bias": 4, "out": 5}.items():
            arrays[name] = context.make_array(kinds[place])(context, builder, arguments[place])
        row, panel, integer = arguments[1], arguments[3], ir.IntType(64)
        size = kinds[0].dtype.bitwidth // 8
        vectors = _Vectors(builder, context.get_value_type(kinds[0].dtype), size)
        lanes = vectors.lanes
        depth = builder.extract_value(arrays["left"].shape, 1)
        row_of = [builder.add(row, integer(r)) for r in range(rows)]
        starts = [builder.gep(arrays["left"].data, [builder.mul(r, depth)]) for r in row_of]
        start = builder.gep(arrays["packed"].data, [builder.mul(panel, builder.mul(depth, integer(2 * lanes)))])

        before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(integer)
        k.add_incoming(integer(0), before)
        running = [builder.phi(vectors.type) for _ in range(2 * rows)]
        here = builder.mul(k, integer(2 * lanes))
        pair = [vectors.load(start, builder.add(here, integer(half * lanes))) for half in (0, 1)]
        sums = []
        for r in range(rows):
            value = vectors.spread(builder.load(builder.gep(starts[r], [k])))
            sums += [vectors.multiply_add(value, pair[half], running[2 * r + half]) for half in (0, 1)]
        for phi, total in zip(running, sums, strict=True):
            phi.add_incoming(vectors.constant(0), before)
            phi.add_incoming(total, loop)
        following = builder.add(k, integer(1))
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)

        width, column = builder.extract_value(arrays["out"].shape, 1), builder.mul(panel, integer(2 * lanes))
        for half in (0, 1):
            here = builder.add(column, integer(half * lanes))
            for r in range(rows):
                value = sums[2 * r + half]
                if with_sigmoid:
                    value = vectors.sigmoid(builder.fadd(value, vectors.load(arrays["bias"].data, here)))
                vectors.store(value, arrays["out"].data, builder.add(builder.mul(row_of[r], width), here))
        return context.get_dummy_value()

    def typed(typing_context, left, row, packed, panel, bias, out):
        return types.void(left, types.int64, packed, types.int64, bias, out), generate

    return tile if config.DISABLE_JIT else intrinsic(typed)  # type: ignore[attr-defined]


_tile, _single = _make_tile(ROWS, False), _make_tile(1, False)
_sigmoid_tile, _sigmoid_single = _make_tile(ROWS, True), _make_tile(1, True)


@njit(cache=True, nogil=True)
def pack(matrix, out):
    """Cut a matrix (K, N) into panels of columns: out (N / width, K, width); N is a multiple of the width."""
    panels, depth, width = out.shape
    for k in range(depth):
        for p in range(panels):
            for j in range(width):
                out[p, k, j] = matrix[k, p * width + j]


@njit(cache=True, nogil=True)
def product(left, packed, out):
    """Write left (M, K) · the packed matrix to `out` (M, N); both C-contiguous, K ≥ 1.

    An element's bytes depend on its row and its column alone.
    """
    whole = len(left) - len(left) % ROWS
    for row in range(0, whole, ROWS):
        for panel in range(len(packed)):
            _tile(left, row, packed, panel, out[0], out)
    for row in range(whole, len(left)):
        for panel in range(len(packed)):
            _single(left, row, packed, panel, out[0], out)


@njit(cache=True, nogil=True)
def sigmoid_product(left, packed, bias, out):
    """Write sigmoid(left · the packed matrix + bias) to `out`, all float32, to 2e-7; else as `product`."""
    whole = len(left) - len(left) % ROWS
    for row in range(0, whole, ROWS):
        for panel in range(len(packed)):
            _sigmoid_tile(left, row, packed, panel, bias, out)
    for row in range(whole, len(left)):
        for panel in range(len(packed)):
            _sigmoid_single(left, row, packed, panel, bias, out)
