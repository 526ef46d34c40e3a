"""Mutated inputs for every reader: ``python -m benchmarks.fuzz [TARGET …] --runs 100000``.

A mutated input may raise the errors that the reader's documentation names, and nothing else; it may take 10 s and 2 GiB
at most. What breaks that is kept in ``--out``, and the exit code is not 0. The engine is libFuzzer, by atheris, which
follows what parts of the package an input reaches; seeds are small files of every kind.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=60000", "-print_final_stats=1")
PIXELS = 1 << 20  # a file that claims more is refused


def photos(folder: Path) -> Callable[[bytes], None]:
    """Read a photo in both ways, all its pages."""
    import numpy as np

    from sift_colorize.checks import PhotoError
    from sift_colorize.photos import opened

    path = folder / "photo"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        for as_grey in (True, False):
            try:
                with opened(path, as_grey, PIXELS) as pages:
                    for page in pages[:4]:
                        np.asarray(page.pixels)
            except PhotoError:
                continue

    return one


def raws(folder: Path) -> Callable[[bytes], None]:
    """Read a camera's raw file."""
    from sift_colorize.checks import PhotoError
    from sift_colorize.photos import read

    path = folder / "photo.dng"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(path, limit=PIXELS)
        except PhotoError:
            return

    return one


def models(folder: Path) -> Callable[[bytes], None]:
    """Load a model, and let it colorize."""
    import numpy as np

    from sift_colorize.checks import ModelError
    from sift_colorize.colorizers import load

    path, grey = folder / "model.safetensors", np.arange(256, dtype=np.uint8).reshape(16, 16)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            colorizer = load(path)
        except ModelError:
            return
        assert colorizer.colorize(grey).shape == (16, 16, 3)

    return one


def manifests(folder: Path) -> Callable[[bytes], None]:
    """Read a manifest, add a line, and look for what it names."""
    from sift_colorize.manifest import NAME, Manifest
    from sift_colorize.verify import pairs

    place = folder / "out"
    (folder / "in").mkdir()
    place.mkdir()
    for one_folder in (folder / "in", place):
        (one_folder / "a.png").write_bytes(b"")

    def one(data: bytes) -> None:
        (place / NAME).write_bytes(data)
        with Manifest(place / NAME) as manifest:
            manifest.add({"output": "a.png", "outcome": "done"})
        assert "a.png" in Manifest(place / NAME).latest()
        assert list(pairs(folder / "in", place))

    return one


def settings(folder: Path) -> Callable[[bytes], None]:
    """Read a settings file."""
    from sift_colorize.checks import SettingsError
    from sift_colorize.settings import load_settings

    path = folder / "settings.toml"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            load_settings(path)
        except SettingsError:
            return

    return one


def metadata(folder: Path) -> Callable[[bytes], None]:
    """Parse EXIF, XMP, IPTC and colour profiles; these never fail."""
    import io

    from sift_colorize import jpegs
    from sift_colorize.metadata import exif_of_tiff, iptc_of_png, iptc_of_resources, is_marked, marked, plain_exif
    from sift_colorize.profiles import tones

    def one(data: bytes) -> None:
        plain_exif(data)
        exif_of_tiff(io.BytesIO(data))
        assert is_marked(marked(data, "fuzz", "0"))
        iptc_of_resources(data)
        iptc_of_png(data.decode("latin-1"))
        if found := tones(data):
            found.coloured()
        _ = jpegs.LumaCoding((1,) * 64, data).grey

    return one


def cache(folder: Path) -> Callable[[bytes], None]:
    """Replace an entry of the cache: it is made again, and never unpickled."""
    import warnings

    from sift_colorize.caching import Cache

    store = Cache(folder / "cache")
    assert store.call(_stage, 3) == 6
    (entry,) = (folder / "cache").rglob("output.pkl")

    def one(data: bytes) -> None:
        entry.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert store.call(_stage, 3) == 6

    return one


def _stage(number: int, version: int = 1) -> int:
    return 2 * number


TARGETS: dict[str, Callable[[Path], Callable[[bytes], None]]] = {
    target.__name__: target for target in (photos, raws, models, manifests, settings, metadata, cache)
}


def seeds(target: str) -> list[bytes]:
    """Return small inputs that are as they should be."""
    import io

    import numpy as np
    from PIL import Image

    from sift_colorize.colorizers import PACKAGED_MODEL
    from sift_colorize.metadata import Metadata, marked
    from sift_colorize.photo_writing import write
    from sift_colorize.photos import Photo

    if target == "models":
        return [PACKAGED_MODEL.read_bytes()[:60_000], _little_model()]
    if target == "manifests":
        return [b'{"input": "/in/a.png", "output": "a.png", "outcome": "done", "input_bytes": 3}\n' * 3, b"{}\n"]
    if target == "settings":
        return [path.read_bytes() for path in Path(__file__).parents[1].joinpath("pipelines").glob("*.toml")]
    if target == "cache":
        return [b"", bytes(range(256))]
    if target == "raws":
        return [_raw()]
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    deep = rng.integers(0, 65536, (12, 9, 3), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "1931:05:01 12:00:00"
    iptc = b"\x1c\x02\x5a\x00\x06Bremen"
    kept = Metadata(exif.tobytes()[6:], None, marked(None, "s", "0"), iptc, (300.0, 300.0), (("Comment", "x"),))
    if target == "metadata":
        return [kept.exif or b"", kept.xmp or b"", b"8BIM\x04\x04\0\0\0\0\0\x0b" + iptc, _profile()]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".jp2"):
            for pixels in (colour, colour[..., 0], deep):
                if pixels.dtype == np.uint16 and suffix not in (".png", ".tif", ".jp2"):
                    continue
                write(path := Path(folder, f"x{suffix}"), Photo(pixels, metadata=kept))
                found.append(path.read_bytes())
        write(path, Photo(colour, colour[..., 0]))
        found.append(path.read_bytes())
    for kind, mode, options in (
        ("TIFF", "P", {}), ("TIFF", "CMYK", {"compression": "tiff_lzw"}), ("JPEG", "CMYK", {}), ("PNG", "1", {}),
        ("JPEG", "RGB", {"progressive": True}), ("TIFF", "RGB", {"compression": "jpeg"}), ("GIF", "P", {}),
        ("TIFF", "L", {"compression": "packbits", "save_all": True, "append_images": [Image.new("L", (5, 4))]}),
        ("AVIF", "RGB", {"exif": exif}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(colour).convert(mode).save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def _raw() -> bytes:
    """Return a small DNG of a camera that does not exist."""
    import io

    import numpy as np
    import tifffile

    y, x = np.mgrid[:32, :48]
    tags = [
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes((0, 1, 1, 2)), True), (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50708, 2, 0, "Nobody N1", True), (271, 2, 0, "Nobody", True), (272, 2, 0, "N1", True),
        (50721, 10, 9, [8, 10, 1, 10, 0, 1, 2, 10, 8, 10, 0, 1, 0, 1, 1, 10, 9, 10], True), (50778, 3, 1, 21, True),
    ]  # fmt: skip
    file = io.BytesIO()
    mosaic = (2000 + 400 * x + 100 * y).astype(np.uint16)
    tifffile.imwrite(file, mosaic, photometric="cfa", metadata=None, extratags=tags)
    return file.getvalue()


def _profile() -> bytes:
    import numpy as np

    from sift_colorize.profiles import Tones

    return Tones(np.linspace(0, 1, 65536)).coloured()[:3000]


def _little_model() -> bytes:
    from sift_colorize.bundled import bundled_photos
    from sift_colorize.colorizer import Colorizer
    from sift_colorize.settings import load_settings

    changes = ("features.working_size=96", "features.words=16", "features.words_from=1", "training.epochs=1")
    changes += ("training.copies=0", "training.samples_seen=500", "features.pooled_components=4")
    changes += ("features.landmarks=4", "features.layout_components=2", "features.word_classes=2")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        Colorizer(load_settings("default", changes)).fit(bundled_photos()[:2]).save(path)
        return path.read_bytes()


def fuzz(target: str, runs: int, out: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    from sift_colorize import _kernels

    for module in pkgutil.iter_modules(_kernels.__path__, "sift_colorize._kernels."):
        importlib.import_module(module.name)  # numba compiles the code as it is
    with atheris.instrument_imports(include=["sift_colorize"], enable_loader_override=False):
        import sift_colorize.batch
        import sift_colorize.colorizers
        import sift_colorize.jp2
        import sift_colorize.tiffs  # noqa: F401

    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed{number}").write_bytes(seed)
    (folder / "work").mkdir()
    words = [sys.argv[0], f"-runs={runs}", f"-artifact_prefix={out}/{target}-", *LIMITS, str(corpus)]
    atheris.Setup(words, TARGETS[target](folder / "work"))
    atheris.Fuzz()


def main() -> None:
    """Run the command line: each target in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[], metavar="TARGET")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="where inputs that break a promise go")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.targets[0], options.runs, options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    broken = []
    for target in options.targets or TARGETS:
        words = ["-m", "benchmarks.fuzz", target, "--here", "--runs", str(options.runs), "--out", str(options.out)]
        run = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        said = [line for line in run.stderr.splitlines() if line.startswith(("stat::", "SUMMARY", "Done"))]
        print(f"{target}: {'; '.join(said)}" if run.returncode == 0 else f"{target}: BROKEN\n{run.stderr[-3000:]}")
        broken += [target] if run.returncode else []
    sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


if __name__ == "__main__":
    main()
