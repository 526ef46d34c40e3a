"""Chroma as 313 bins: the corners of the 10 × 10 cells of the a, b plane that sRGB touches (Zhang et al. 2016)."""

from __future__ import annotations

import numpy as np
import torch

STEP = 10  # Lab units
TEMPERATURE = 0.38  # of the annealed mean: between the mean (1) and the mode (0)
UNIFORM = 0.5  # share of the uniform distribution that is mixed into the frequencies before they weigh
SPREAD = 0.5  # steps; σ under which the frequencies are smoothed
RANGES = {  # a: the least and the largest b
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
BINS = np.array([(a, b) for a, (low, high) in RANGES.items() for b in range(low, high + 1, STEP)], np.float32)
A_LOW, B_LOW = -90, -110
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def _lookup() -> np.ndarray:
    """Return the nearest bin of every place of a grid of all a and b: (20, 22) int64."""
    a, b = np.meshgrid(np.arange(A_LOW, 101, STEP), np.arange(B_LOW, 101, STEP), indexing="ij")
    apart = (a[..., None] - BINS[:, 0]) ** 2 + (b[..., None] - BINS[:, 1]) ** 2
    return apart.argmin(axis=2)


LOOKUP = torch.from_numpy(_lookup())
CENTRES = torch.from_numpy(BINS)


def soft_bins(ab: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bins at the corners around each colour, and its share in each, such that their mean is the colour.

    Parameters
    ----------
    ab : (N, 2, H, W)
        Lab units.

    Returns
    -------
    places : (N, 4, H, W) int64
    shares : (N, 4, H, W), which sum to 1
    """
    lookup = LOOKUP.to(ab.device)
    rows, cols = lookup.shape
    a = ((ab[:, 0] - A_LOW) / STEP).clamp(0, rows - 1)
    b = ((ab[:, 1] - B_LOW) / STEP).clamp(0, cols - 1)
    i, j = a.floor().clamp(max=rows - 2), b.floor().clamp(max=cols - 2)
    u, v = a - i, b - j
    places = torch.stack([lookup[i.long() + di, j.long() + dj] for di, dj in CORNERS], 1)
    shares = torch.stack([(u if di else 1 - u) * (v if dj else 1 - v) for di, dj in CORNERS], 1)
    return places, shares


def bin_weights(ab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how frequent each bin is among colours `ab` (N, 2), and what it weighs in the loss; (313,) float32 each.

    Frequencies are smoothed and mixed with the uniform distribution; the weights are their inverses, 1 on average
    over the smoothed frequencies.
    """
    places, shares = soft_bins(torch.from_numpy(np.ascontiguousarray(ab, np.float32).T[None, :, :, None]))
    counted = np.bincount(places.ravel().numpy(), shares.ravel().numpy(), len(BINS))
    apart = ((BINS[:, None] - BINS) ** 2).sum(2) / STEP**2
    bell = np.exp(-0.5 * apart / SPREAD**2)
    frequency = (bell / bell.sum(0)) @ (counted / counted.sum())
    mixed = (1 - UNIFORM) * frequency + UNIFORM / len(BINS)
    weights = 1 / mixed
    return mixed.astype(np.float32), (weights / (frequency * weights).sum()).astype(np.float32)


def annealed_mean(logits: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return the mean of the bins under a sharpened softmax: logits (N, 313, H, W) → a and b (N, 2, H, W)."""
    probabilities = torch.softmax(logits / temperature, dim=1)
    return torch.einsum("nkhw,kc->nchw", probabilities, CENTRES.to(logits.device))
