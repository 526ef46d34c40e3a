"""The colour photos that come inside scikit-image and scikit-learn, so that `fit` has something to start from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .checks import NoPhotosError

PHOTOS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}


def bundled_photos() -> list[Path]:
    """Return the real colour photos that need no download: seven, if both packages are of a usual version.

    Of the stereo pair one half is taken. Left out, since they are no photos of things as the eye sees them: the stained
    tissue (ihc), the retina, the deep field of Hubble in false colours, the colour wheel and the logo. What another
    version of a package lacks is passed over. Neither package is imported.

    Raises
    ------
    NoPhotosError
        If there is none at all.
    """
    found = []
    for package, (folder, names) in PHOTOS.items():
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in names if (path := Path(place, folder, name)).is_file()]
    if not found:
        raise NoPhotosError(
            "scikit-image and scikit-learn bring no photos here; wanted is a folder of your own: `fit FOLDER`"
        )
    return found
