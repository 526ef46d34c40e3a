"""Kernels of the network: what stands between its matrix products. Arrays in and out.

The inner loops run over the 128 units, so that they become vector instructions; `error_model="numpy"` lets a division
be one of them. Constants are float32, since a Python number would widen all to float64. "contract" allows fused
multiply-adds and "reassoc" a sum in several lanes; neither touches NaN.
"""

import numpy as np
from numba import njit

UNITS = 128  # known to the compiler: the loops over units need no remainder
ONE = np.float32(1)


@njit(cache=True, nogil=True, error_model="numpy")
def sigmoid(z, bias):
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
