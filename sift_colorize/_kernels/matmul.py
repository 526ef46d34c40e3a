"""Matrix products on one thread, with or without the sigmoid behind them.

OpenBLAS sums a row in an order that depends on where in the matrix the row stands, and packs both matrices at each
call. Here every element is one sum, k = 0, 1, 2 …, whatever stands around it, and the right matrix is packed once:
it is cut into panels as wide as two vector registers. A tile of the result, ROWS × a panel, stays in registers while
k runs, and through the sigmoid. Numba cannot be brought to do that from loops, so the tile is written with LLVM's own
instructions; the plain Python inside `_make_tile` says the same, and runs where the JIT is off.

Units can be passed on as *steps*, whole numbers of 16 bits: a processor multiplies and adds twice as many of those as
of float32, in pairs (k, k + 1), and their sums are exact.
"""

from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = llvm.get_host_cpu_features().get("avx512f", False)
REGISTER = 64 if _WIDE else 32  # bytes; where registers are narrower, LLVM takes two for one
ROWS = 12 if _WIDE else 6  # of a tile: two sums a row, as many as the registers hold
BLOCK = 24 * ROWS  # rows that go through a network at a time
STEPS = 1 << 14  # between 0 and 1, of a unit as a whole number


class Rational(NamedTuple):
    """sigmoid(x) − ½ ≈ t·P(t²)/Q(t²) for t = x/reach in −1…1, constant beyond.

    Minimax fits by iteratively reweighted least squares. All coefficients are positive: no cancellation.
    """

    reach: float
    P: tuple
    Q: tuple


# Error 9e-9, so that the rounding of float32 (1e-7) is what remains.
FINE = Rational(
    18.0,
    (4.499999576092836, 48.74529143627, 102.9394511780, 48.9578855708, 2.55389926),
    (1.0, 37.83225744, 169.54911035, 173.85443328, 33.15725797),
)
# Error 2e-5, and 4.5e-5 beyond: less than a step.
COARSE = Rational(10.0, (2.49952536, 6.35768722, 1.02334317), (1.0, 10.86259782, 7.89946057))


def panel_width(dtype) -> int:
    """Return how many columns a panel has: 16 of float32, or 32 where vectors have 512 bits; half of float64."""
    return 2 * REGISTER // np.dtype(dtype).itemsize


class _Vectors:
    """LLVM's instructions on vectors of floats of one type, as many as a register holds."""

    def __init__(self, builder, scalar, size):
        self.builder, self.size, self.lanes = builder, size, REGISTER // size
        self.type = ir.VectorType(scalar, self.lanes)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * size}"
        self._fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name)

    def constant(self, value):
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def multiply_add(self, x, y, z):
        return self.builder.call(self._fused, [x, y, z])

    def load(self, pointer, offset, kind=None):
        kind = kind or self.type
        place = self.builder.bitcast(self.builder.gep(pointer, [offset]), kind.as_pointer())
        return self.builder.load(place, align=2)

    def store(self, value, pointer, offset):
        place = self.builder.bitcast(self.builder.gep(pointer, [offset]), value.type.as_pointer())
        self.builder.store(value, place, align=2)

    def spread(self, value, kind):
        """A vector of one and the same value."""
        nothing, integer = ir.Constant(kind, ir.Undefined), ir.IntType(32)
        mask = ir.Constant(ir.VectorType(integer, kind.count), [0] * kind.count)
        return self.builder.shuffle_vector(self.builder.insert_element(nothing, value, integer(0)), nothing, mask)

    def polynomial(self, u, coefficients):
        total = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = self.multiply_add(total, u, self.constant(coefficient))
        return total

    def sigmoid(self, x, rational):
        """The sigmoid less ½."""
        build, reach = self.builder, rational.reach
        for limit, beyond in ((self.constant(reach), ">"), (self.constant(-reach), "<")):
            x = build.select(build.fcmp_ordered(beyond, x, limit), limit, x)  # NaN stays NaN
        t = build.fmul(x, self.constant(1 / reach))
        u = build.fmul(t, t)
        return build.fdiv(build.fmul(t, self.polynomial(u, rational.P)), self.polynomial(u, rational.Q))


class _Floats(_Vectors):
    """Sums of products of floats, one k at a time."""

    at_once = 1

    def __init__(self, builder, scalar, size):
        super().__init__(builder, scalar, size)
        self.sum_type = self.factor_type = self.type
        self.left_type = scalar

    def add_product(self, value, factors, total):
        return self.multiply_add(self.spread(value, self.type), factors, total)

    def as_float(self, total, factor):
        return total


class _Pairs(_Vectors):
    """Sums of products of 16-bit steps, two k at a time; they come out as float32."""

    at_once = 2

    def __init__(self, builder):
        super().__init__(builder, ir.FloatType(), 4)
        self.left_type = ir.IntType(32)
        self.sum_type = ir.VectorType(self.left_type, self.lanes)
        self.factor_type = ir.VectorType(ir.IntType(16), 2 * self.lanes)

    def add_product(self, value, factors, total):
        build, wide = self.builder, ir.VectorType(ir.IntType(32), 2 * self.lanes)
        values = build.bitcast(self.spread(value, self.sum_type), self.factor_type)
        products = build.mul(build.sext(values, wide), build.sext(factors, wide))
        nothing = ir.Constant(wide, ir.Undefined)
        for first in (0, 1):
            mask = ir.Constant(self.sum_type, list(range(first, 2 * self.lanes, 2)))
            total = build.add(total, build.shuffle_vector(products, nothing, mask))
        return total

    def as_float(self, total, factor):
        return self.builder.fmul(self.builder.sitofp(total, self.type), factor)


def _steps(vectors, units):
    """Vector of units less ½ as whole steps."""
    build, integers = vectors.builder, ir.VectorType(ir.IntType(32), vectors.lanes)
    above = vectors.multiply_add(units, vectors.constant(STEPS), vectors.constant(STEPS / 2 + 0.5))
    whole = build.sub(build.fptosi(above, integers), ir.Constant(integers, [STEPS // 2] * vectors.lanes))
    return build.trunc(whole, ir.VectorType(ir.IntType(16), vectors.lanes))


def _make_tile(rows, with_sigmoid):
    """Return the product of `rows` rows and a panel, for compiled code."""

    def tile(left, row, packed, panel, factor, bias, out):
        """out[row + r, columns of the panel] = left[row + r] · packed[panel] for each of the tile's rows r.

        With the sigmoid: of that (times factor, if left holds steps) + bias, as float32, to 2e-7, or in steps.
        Without it, `factor` and `bias` are not read.
        """
        width = packed.shape[2]
        columns = slice(panel * width, (panel + 1) * width)
        for r in range(row, row + rows):
            if left.dtype == np.int16:
                sums = (left[r].reshape(-1, 1, 2).astype(np.int32) * packed[panel]).sum(axis=(0, 2)) * factor[columns]
            else:
                sums = (left[r][:, None] * packed[panel]).sum(axis=0)
            if with_sigmoid:
                sums = 1 / (1 + np.exp(-np.clip(sums + bias[columns], -FINE.reach, FINE.reach)))
            out[r, columns] = np.floor((sums - 0.5) * STEPS + 0.5) if out.dtype == np.int16 else sums

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        arrays = {}
        for name, place in {"left": 0, "packed": 2, "factor": 4, "bias": 5, "out": 6}.items():
            arrays[name] = context.make_array(kinds[place])(context, builder, arguments[place])
        row, panel, integer = arguments[1], arguments[3], ir.IntType(64)
        kind = kinds[0].dtype
        whole = kind == types.int16
        vectors = _Pairs(builder) if whole else _Floats(builder, context.get_value_type(kind), kind.bitwidth // 8)
        lanes, taken = vectors.lanes, vectors.factor_type.count
        depth = builder.udiv(builder.extract_value(arrays["left"].shape, 1), integer(vectors.at_once))
        data = builder.bitcast(arrays["left"].data, vectors.left_type.as_pointer())
        row_of = [builder.add(row, integer(r)) for r in range(rows)]
        starts = [builder.gep(data, [builder.mul(r, depth)]) for r in row_of]
        start = builder.gep(arrays["packed"].data, [builder.mul(panel, builder.mul(depth, integer(2 * taken)))])

        before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(integer)
        k.add_incoming(integer(0), before)
        running = [builder.phi(vectors.sum_type) for _ in range(2 * rows)]
        here = builder.mul(k, integer(2 * taken))
        halves = [vectors.load(start, builder.add(here, integer(half * taken)), vectors.factor_type) for half in (0, 1)]
        sums = []
        for r in range(rows):
            value = builder.load(builder.gep(starts[r], [k]), align=2)
            sums += [vectors.add_product(value, halves[half], running[2 * r + half]) for half in (0, 1)]
        for phi, total in zip(running, sums, strict=True):
            phi.add_incoming(ir.Constant(vectors.sum_type, None), before)
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
                    value = vectors.as_float(value, vectors.load(arrays["factor"].data, here))
                    value = builder.fadd(value, vectors.load(arrays["bias"].data, here))
                    if kinds[6].dtype == types.int16:
                        value = _steps(vectors, vectors.sigmoid(value, COARSE))
                    else:
                        value = builder.fadd(vectors.sigmoid(value, FINE), vectors.constant(0.5))
                vectors.store(value, arrays["out"].data, builder.add(builder.mul(row_of[r], width), here))
        return context.get_dummy_value()

    def typed(typing_context, left, row, packed, panel, factor, bias, out):
        return types.void(left, types.int64, packed, types.int64, factor, bias, out), generate

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
            _tile(left, row, packed, panel, out[0], out[0], out)
    for row in range(whole, len(left)):
        for panel in range(len(packed)):
            _single(left, row, packed, panel, out[0], out[0], out)


@njit(cache=True, nogil=True)
def sigmoid_product(left, packed, factor, bias, out):
    """Write sigmoid(left · the packed matrix · factor + bias) to `out`, to 2e-7 or in steps; else as `product`.

    `left` holds float32, and `factor` is not read; or int16, and the matrix is packed in pairs of k,
    (N / width, K / 2, width, 2) int16. `out` is float32, or int16 for (sigmoid − ½)·STEPS, rounded.
    """
    whole = len(left) - len(left) % ROWS
    for row in range(0, whole, ROWS):
        for panel in range(len(packed)):
            _sigmoid_tile(left, row, packed, panel, factor, bias, out)
    for row in range(whole, len(left)):
        for panel in range(len(packed)):
            _sigmoid_single(left, row, packed, panel, factor, bias, out)


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def forward(X, mean, inverse_scale, first, hidden, last, out):
    """Write what a network of sigmoid layers says of each row of X (N, D) to `out` (N,); NaN for one not finite.

    `first` and each of `hidden` are the panels, factor and bias of a layer, those of `hidden` in steps, one after the
    other along their first axis; `last` is the linear unit's weights and bias. A block of rows goes through all layers
    while it is in the cache.
    """
    panels, factors, biases = hidden
    weights, offset = last
    inputs = np.empty((BLOCK, X.shape[1]), np.float32)
    steps = np.empty((2, BLOCK, len(weights)), np.int16)
    units = np.empty((BLOCK, len(weights)), np.float32)
    for start in range(0, len(X), BLOCK):
        n = min(BLOCK, len(X) - start)
        for i in range(n):
            total = np.float32(0)
            for j in range(X.shape[1]):
                value = (X[start + i, j] - mean[j]) * inverse_scale[j]
                inputs[i, j] = value
                total += value
            out[start + i] = total * np.float32(0)  # 0, or NaN: sigmoids would hide what is not finite
        sigmoid_product(inputs[:n], first[0], first[1], first[2], steps[0, :n])
        for k in range(len(panels) - 1):
            sigmoid_product(steps[k % 2, :n], panels[k], factors[k], biases[k], steps[1 - k % 2, :n])
        k = len(panels) - 1
        sigmoid_product(steps[k % 2, :n], panels[k], factors[k], biases[k], units[:n])
        for i in range(n):
            total = units[i, 0] * weights[0]
            for j in range(1, len(weights)):
                total += units[i, j] * weights[j]
            out[start + i] += total + offset
