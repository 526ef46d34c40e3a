"""Slow twins of the network and its kernels, written straight from the formulas: float64, one number at a time."""

from __future__ import annotations

import math

import numpy as np


def sigmoid(x: float) -> float:
    """1/(1 + e^−x), without overflow."""
    if math.isnan(x):
        return x
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def activate(z, bias):
    """Sigmoid of each z + bias of its column."""
    return np.array([[sigmoid(float(v) + float(b)) for v, b in zip(row, bias, strict=True)] for row in z])


def sigmoid_backward(gradient, output):
    """The gradient before a sigmoid from the one behind it, and its sum over rows."""
    rows = zip(gradient, output, strict=True)
    before = [[float(g) * float(h) * (1 - float(h)) for g, h in zip(*pair, strict=True)] for pair in rows]
    return np.array(before), np.array([math.fsum(column) for column in zip(*before, strict=True)])


def dense(X, W):
    """X · W, each number by its own sum."""
    columns = W.T.astype(float)
    return np.array(
        [[math.fsum(x * w for x, w in zip(row, column, strict=True)) for column in columns] for row in X.astype(float)]
    )


def standardise(X, mean, scale, noise=0.0):
    """(X − mean)/scale + noise."""
    return (np.float64(X) - np.float64(mean)) / np.float64(scale) + noise


def adam(parameters, gradient, first, second, step, rate, decay):
    """One step (counted from 1) of Adam (Kingma & Ba 2015) with decoupled decay (Loshchilov & Hutter 2019)."""
    out = []
    for p, g, m, v in zip(parameters, gradient, first, second, strict=True):
        p, g = float(p), float(g)
        m = 0.9 * float(m) + 0.1 * g
        v = 0.999 * float(v) + 0.001 * g * g
        direction = (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
        out.append((p - rate * direction - rate * decay * p, m, v))
    return tuple(np.array(column) for column in zip(*out, strict=True))


def forward(network, X):
    """The prediction of a network, in float64, by matrix products of numpy alone."""
    h = standardise(X, network.x_mean, network.x_scale)
    for W, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        h = 1 / (1 + np.exp(-(h @ W.astype(np.float64) + b)))
    out = h @ network.weights[-1].astype(np.float64) + network.biases[-1]
    return out[:, 0] * network.y_scale + network.y_mean


def loss(network, X, y):
    """Half the mean squared error in units of the target's scale: what the trainer's gradient is of."""
    error = (forward(network, X) - y) / network.y_scale
    return 0.5 * float(np.mean(error**2))


def last_hidden(network, X):
    """What the last sigmoid layer says."""
    h = standardise(X, network.x_mean, network.x_scale)
    for W, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        h = 1 / (1 + np.exp(-(h @ W.astype(np.float64) + b)))
    return h
