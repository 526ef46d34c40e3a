"""What needs no pictures, only counting: mean chroma, by lightness, by lightness and row.

Each is a colorizer of its own, and stands in every table beside the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import ModelError

L_CODES, ROW_CODES = 64, 12  # size of the table of mean chroma by lightness and row
STRENGTH = 2000.0  # pixels; a cell of fewer leans on the mean of the larger group


@dataclass(frozen=True)
class Baselines:
    """Tables of mean a, b: of all pixels (2,), by lightness (L_CODES, 2), by lightness and row (…, ROW_CODES, 2)."""

    train_mean: np.ndarray
    given_L: np.ndarray
    given_L_row: np.ndarray

    @classmethod
    def from_table(cls, table: np.ndarray) -> Baselines:
        """Return the baselines of counts and sums (L_CODES, ROW_CODES, 3), as `chroma_table` gives them."""
        count, sums = table[..., :1], table[..., 1:]
        mean = sums.sum((0, 1)) / count.sum()
        by_L = (sums.sum(1) + STRENGTH * mean) / (count.sum(1) + STRENGTH)
        by_both = (sums + STRENGTH * by_L[:, None]) / (count + STRENGTH)
        return cls(*(array.astype(np.float32) for array in (mean, by_L, by_both)))

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Baselines:
        """Return the baselines of `to_arrays`, or raise ModelError."""
        shapes = {"train_mean": (2,), "given_L": (L_CODES, 2), "given_L_row": (L_CODES, ROW_CODES, 2)}
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else "nothing"
            if found != shape:
                raise ModelError(f"the model's table '{name}' has {found}; wanted is {shape}")
        return cls(*(arrays[name].astype(np.float32) for name in shapes))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the tables by name."""
        return {"train_mean": self.train_mean, "given_L": self.given_L, "given_L_row": self.given_L_row}

    def chroma(self, name: str, L: np.ndarray) -> np.ndarray:
        """Return the chroma (H, W, 2) that the baseline `name` gives to a lightness image (H, W)."""
        if name == "grey":
            return np.zeros((*L.shape, 2), np.float32)
        if name == "train_mean":
            return np.broadcast_to(self.train_mean, (*L.shape, 2))
        if name == "mean_given_L":
            return self.given_L[lightness_code(L)]
        return self.given_L_row[lightness_code(L), row_code(len(L))[:, None]]


BASELINES = ("grey", "train_mean", "mean_given_L", "mean_given_L_row")


def chroma_table(lab: np.ndarray) -> np.ndarray:
    """Return count, sum of a and sum of b by lightness and row: (L_CODES, ROW_CODES, 3) float64."""
    codes = lightness_code(lab[..., 0]) * ROW_CODES + row_code(len(lab))[:, None]
    table = np.empty((L_CODES * ROW_CODES, 3))
    for column, weights in enumerate((None, lab[..., 1].ravel(), lab[..., 2].ravel())):
        table[:, column] = np.bincount(codes.ravel(), weights, minlength=len(table))
    return table.reshape(L_CODES, ROW_CODES, 3)


def lightness_code(L: np.ndarray) -> np.ndarray:
    """Return the table's row for each lightness."""
    return np.clip(L * (L_CODES / 100), 0, L_CODES - 1).astype(np.int64)


def row_code(height: int) -> np.ndarray:
    """Return the table's column for each of `height` rows."""
    return np.arange(height) * ROW_CODES // height
