"""Kernels of the network: what stands between its matrix products, and the product of `predict`. Arrays in and out.

Training leaves its matrix products to BLAS. `predict` may not: sgemm sums a row in an order that depends on the row's
place in the matrix (measured on OpenBLAS: rows 6…11 of each 12 differ from the others in the last bit).

The inner loops run over the 128 units, so that they become vector instructions; `error_model="numpy"` lets a division
be one of them. Constants are float32, since a Python number would widen all to float64. "contract" allows fused
multiply-adds and "reassoc" a sum in several lanes; neither touches NaN.
"""

import numpy as np
from numba import njit

UNITS = 128  # known to the compiler: the loops over units need no remainder
ROWS = 32  # of `dense` at a time: their sums and four rows of weights stay in the first cache
ONE = np.float32(1)
HALF = np.float32(0.5)
# Beyond ±REACH the sigmoid is 0 or 1 to float32.
REACH = np.float32(18)
PER_REACH = np.float32(1 / 18)
# sigmoid(18 t) − ½ ≈ t·P(t²)/Q(t²) on −1…1: minimax fit by iteratively reweighted least squares, error 9e-9, so that
# the rounding of float32 (1e-7) is what remains. All coefficients are positive: no cancellation.
P0 = np.float32(4.499999576092836)
P1 = np.float32(48.74529143627)
P2 = np.float32(102.9394511780)
P3 = np.float32(48.9578855708)
P4 = np.float32(2.55389926)
Q1 = np.float32(37.83225744)
Q2 = np.float32(169.54911035)
Q3 = np.float32(173.85443328)
Q4 = np.float32(33.15725797)


@njit(cache=True, nogil=True, fastmath={"contract"})
def dense(X, W, out):
    """Write X (N, D) · W (D, 128) to `out`, N even; each row by the same sums in the same order, wherever it stands."""
    n, d = X.shape
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        out[start:stop] = 0
        for k in range(0, d - d % 4, 4):
            for i in range(start, stop, 2):
                x0, x1, x2, x3 = X[i, k], X[i, k + 1], X[i, k + 2], X[i, k + 3]
                y0, y1, y2, y3 = X[i + 1, k], X[i + 1, k + 1], X[i + 1, k + 2], X[i + 1, k + 3]
                for j in range(UNITS):
                    w0, w1, w2, w3 = W[k, j], W[k + 1, j], W[k + 2, j], W[k + 3, j]
                    out[i, j] = out[i, j] + x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3
                    out[i + 1, j] = out[i + 1, j] + y0 * w0 + y1 * w1 + y2 * w2 + y3 * w3
        for k in range(d - d % 4, d):
            for i in range(start, stop):
                for j in range(UNITS):
                    out[i, j] += X[i, k] * W[k, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def sigmoid_single(z, bias):
    """Replace float32 `z` (N, units) by sigmoid(z + bias), to 2e-7."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            x = z[i, j] + bias[j]
            x = REACH if x > REACH else x  # written so that NaN stays NaN
            x = -REACH if x < -REACH else x
            t = x * PER_REACH
            u = t * t
            p = t * (P0 + u * (P1 + u * (P2 + u * (P3 + u * P4))))
            q = ONE + u * (Q1 + u * (Q2 + u * (Q3 + u * Q4)))
            z[i, j] = HALF + p / q


@njit(cache=True, nogil=True, error_model="numpy")
def sigmoid_double(z, bias):
    """Replace float64 `z` (N, units) by sigmoid(z + bias), to the last digits."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = ONE / (ONE + np.exp(-(z[i, j] + bias[j])))


@njit(cache=True, nogil=True, fastmath={"contract"})
def sigmoid_backward(gradient, output, bias_gradient):
    """Multiply `gradient` (N, units) by output·(1 − output); its column sums go to `bias_gradient`."""
    bias_gradient[:] = 0
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            h = output[i, j]
            g = gradient[i, j] * (h * (ONE - h))
            gradient[i, j] = g
            bias_gradient[j] += g


@njit(cache=True, nogil=True, fastmath={"contract"})
def standardise(X, mean, inverse_scale, out):
    """Write (X − mean)·inverse_scale to `out`, both (N, D)."""
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            out[i, j] = (X[i, j] - mean[j]) * inverse_scale[j]


@njit(cache=True, nogil=True, fastmath={"contract"})
def standardise_noisy(X, mean, inverse_scale, pool, starts, amount, out):
    """The same, plus `amount` times the D numbers of `pool` that begin at the row's `starts`."""
    for i in range(X.shape[0]):
        noise = pool[starts[i] : starts[i] + X.shape[1]]
        for j in range(X.shape[1]):
            out[i, j] = (X[i, j] - mean[j]) * inverse_scale[j] + amount * noise[j]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def last_layer(hidden, weights, bias, out):
    """Write hidden (N, units) · weights (units,) + bias to `out` (N,); every row by the same instructions."""
    for i in range(hidden.shape[0]):
        total = hidden[i, 0] * weights[0]
        for j in range(1, hidden.shape[1]):
            total += hidden[i, j] * weights[j]
        out[i] = total + bias


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def adam(parameters, gradient, first, second, rates, constants):
    """One step of Adam with decoupled decay on flat arrays, in place.

    `rates`: step size over the bias correction of the first moment, 1 over the root of that of the second, and the
    share of each parameter that decays away; `constants`: β₁, 1 − β₁, β₂, 1 − β₂, ε. All of the parameters' type.
    """
    size, root, decay = rates[0], rates[1], rates[2]
    beta1, rest1, beta2, rest2, epsilon = constants[0], constants[1], constants[2], constants[3], constants[4]
    for i in range(parameters.shape[0]):
        g = gradient[i]
        m = beta1 * first[i] + rest1 * g
        v = beta2 * second[i] + rest2 * g * g
        first[i] = m
        second[i] = v
        parameters[i] -= size * m / (np.sqrt(v) * root + epsilon) + decay * parameters[i]
