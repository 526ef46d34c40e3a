"""Photos as batches of lightness and chroma, streamed from disk: what step comes next depends on its number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..checks import PhotoError
from ..features import resize
from ..opencv import cv2
from ..samples import load_lab
from ..settings import CnnSettings
from ..threads import one_thread

MOST_LOADERS = 8  # processes that read ahead


@dataclass(frozen=True)
class Photos(Dataset):
    """Squares cut from photos, augmented; item (number, draw) is the draw-th square of the number-th photo.

    paths : where the photos lie.
    settings : CnnSettings
    working_size : px, long side to which a photo is brought first.
    white_point, seed : of Lab; of everything that is drawn.
    """

    paths: tuple[Path, ...]
    settings: CnnSettings
    working_size: int
    white_point: str
    seed: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return lightness (1, size, size) in 0…1 and a, b (2, size, size) in Lab units, float32."""
        number, draw = item
        with one_thread():
            _, lab = load_lab(self.paths[number], self.working_size, self.white_point)
            square = cut(lab, self.settings, np.random.default_rng([self.seed, number, draw]))
        planes = np.ascontiguousarray(np.moveaxis(square, 2, 0))
        return planes[:1] / np.float32(100), planes[1:]

    def batches(self, first: int, last: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the items of steps first … last − 1: each epoch takes every photo once, in another order."""
        size, count = self.settings.batch_size, len(self.paths)
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(first, last):
            batch = []
            for item in range(step * size, (step + 1) * size):
                if item // count != epoch:
                    epoch = item // count
                    order = np.random.default_rng([self.seed, epoch]).permutation(count)
                batch.append((int(order[item % count]), epoch))
            yield batch

    def some(self, count: int) -> torch.Tensor:
        """Return the lightness of the first squares that training will see: (count, 1, size, size)."""
        items = [item for batch in self.batches(0, -(-count // self.settings.batch_size)) for item in batch]
        return torch.from_numpy(np.stack([self[item][0] for item in items[:count]]))

    def stream(self, first: int, last: int, loaders: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of steps first … last − 1: (N, 1, size, size) and (N, 2, size, size).

        Parameters
        ----------
        loaders : int
            Processes that read ahead; 0 reads in this one.

        Raises
        ------
        PhotoError
            If a photo can't be read any more.
        """
        loaders = min(loaders, MOST_LOADERS)
        try:
            yield from DataLoader(self, batch_sampler=self.batches(first, last), num_workers=loaders)
        except PhotoError as error:  # from another process it comes with that one's traceback before it
            last_line = str(error).strip().splitlines()[-1]
            raise PhotoError(last_line.removeprefix(f"{PhotoError.__module__}.{PhotoError.__name__}: ")) from None


def cut(lab: np.ndarray, settings: CnnSettings, rng: np.random.Generator) -> np.ndarray:
    """Return a square (size, size, C) of a picture (h, w, C), float32: cut out or squeezed, zoomed, turned, mirrored.

    Where it shrinks it is averaged over areas first, as photos are that a network is to colorize. What lies beyond the
    edge is mirrored at it.
    """
    side = settings.size
    scale = np.exp(rng.uniform(-1, 1) * np.log(settings.zoom))
    turn = np.deg2rad(rng.uniform(-1, 1) * settings.rotation)
    moved = rng.uniform(-1, 1, 2)
    mirrored = settings.flip and rng.random() < 0.5
    height, width = lab.shape[:2]
    wanted = scale * (np.array([side, side]) if settings.whole else np.array([height, width]))
    lab = resize(lab, (min(height, max(1, round(wanted[0]))), min(width, max(1, round(wanted[1])))))
    height, width = lab.shape[:2]
    down, across = wanted / (height, width)
    if settings.whole:
        room = settings.shift * np.array([width, height])
    else:
        room = np.maximum(np.array([width, height]) - side / np.array([across, down]), 0) / 2
    middle = np.array([width, height]) / 2 + moved * room
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([across * (-1 if mirrored else 1), down])
    # Pixel centres lie at + 0.5: the middle of the photo's part comes to the middle of the square.
    offset = side / 2 - 0.5 - matrix @ (middle - 0.5)
    both = np.column_stack([matrix, offset])
    return cv2.warpAffine(lab, both, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
