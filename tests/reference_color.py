"""Slow twin of `color`, written straight from the standards: float64, one colour at a time."""

from __future__ import annotations

import numpy as np

RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def linear(v: float) -> float:
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def companded(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


def f(t: float) -> float:
    return t ** (1 / 3) if t > (6 / 29) ** 3 else t * 841 / 108 + 4 / 29


def f_inverse(v: float) -> float:
    return v**3 if v > 6 / 29 else (v - 4 / 29) * 108 / 841


def adapted(xyz: np.ndarray, white: tuple[float, float]) -> np.ndarray:
    """Bradford: what XYZ under sRGB's own white becomes under another."""
    x, y = white
    source = BRADFORD @ np.sum(RGB_TO_XYZ, axis=1)
    target = BRADFORD @ np.array([x / y, 1, (1 - x - y) / y])
    return np.linalg.solve(BRADFORD, BRADFORD @ xyz * target / source)


def lab_of(rgb, white: tuple[float, float] | None = None) -> np.ndarray:
    """Lab of companded RGB; `white` None is D65 as scikit-image has it."""
    xyz = np.array(RGB_TO_XYZ) @ [linear(float(v)) for v in rgb]
    if white is None:
        reference = np.array([0.95047, 1, 1.08883])
    else:
        xyz, reference = adapted(xyz, white), adapted(np.sum(RGB_TO_XYZ, axis=1), white)
    fx, fy, fz = (f(t) for t in xyz / reference)
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])
