"""Photos that the tests make from those inside scikit-image and scikit-learn."""

import numpy as np
import pytest
from skimage import data
from sklearn.datasets import load_sample_image


@pytest.fixture(scope="session")
def package_photos():
    """Return the colour photos inside the packages: name → (H, W, 3) uint8."""
    photos = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return photos | {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


@pytest.fixture(scope="session")
def crops(package_photos):
    """Return twelve different colour pictures of 96 × 96 px."""
    rng = np.random.default_rng(0)
    pictures = []
    for photo in list(package_photos.values()) * 2:
        top, left = (rng.integers(side - 192) for side in photo.shape[:2])
        pictures.append(np.ascontiguousarray(photo[top : top + 192 : 2, left : left + 192 : 2]))
    return pictures
