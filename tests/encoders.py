"""Pictures, files of them as other programs write them, and display profiles with what lcms makes of them."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms

from sift_colorize import photos
from sift_colorize.color import lightness


def random_array(shape, dtype, seed=7):
    """Codes of all the range, 0…1 for float32; the same at each call."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype) == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def smooth(height=40, width=60, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1)
    return (planes * np.iinfo(dtype).max).astype(dtype)


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png(array, extra_before=b"", extra_after=b""):
    """The reference encoder: unfiltered rows, straight from the PNG specification."""
    height, width = array.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[array.reshape(height, width, -1).shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
            extra_before,
            chunk(b"IDAT", zlib.compress(rows)),
            extra_after,
            chunk(b"IEND", b""),
        )
    )


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def saved(folder, name, data):
    path = Path(folder) / name
    path.write_bytes(data)
    return path


def exif_block(orientation=1, order=b"II"):
    exif = Image.Exif()
    exif.endian = "<" if order == b"II" else ">"
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x9003] = "1931:05:01 12:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def same(one, other):
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())


def read(path):
    """The photo; and a look at whether it is the same when its grey codes alone are asked for."""
    photo, grey = photos.read(path), photos.read(path, as_grey=True)
    if photo.source.startswith("JPEG, colour"):  # the luma in the file, not that of rounded RGB
        assert grey.pixels.dtype == np.uint8 and grey.pixels.shape == photo.grey.shape
        assert np.abs(grey.pixels - photo.grey.astype(int)).mean() < 0.3
    elif "profile applied" not in photo.source:  # else the codes in the file, not those in sRGB
        assert same(grey.pixels, photo.grey)
    assert same(grey.alpha, photo.alpha)
    assert replace(grey.metadata, icc=None) == replace(photo.metadata, icc=None)
    return photo


def gamma_profile(gamma, space=b"RGB "):
    """A display profile with sRGB's primaries (D50-adapted) and a power curve: ICC.1, sections 7 and 9."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    xyz = {
        b"wtpt": (0.9642, 1, 0.8249),
        b"rXYZ": (0.4361, 0.2225, 0.0139),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7139),
    }
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(v * 65536) for v in value)) for name, value in xyz.items()
    }
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"kTRC": curve}
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value
    head = struct.pack(
        ">I4sI4s4s4s", 132 + len(table) - 4 + len(body), b"\0\0\0\0", 0x02400000, b"mntr", space, b"XYZ "
    )
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061) + b"\0" * 48
    return head + table + body


def seen_by_lcms(profile):
    """How light lcms says that the 256 neutral codes of a profile are: the slow reference, at 8 bit."""
    source = ImageCms.getOpenProfile(io.BytesIO(profile))
    mode = "L" if profile[16:20] == b"GRAY" else "RGB"
    codes = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    exact = ImageCms.Flags.NOOPTIMIZE
    change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", 1, exact)
    return lightness(np.asarray(ImageCms.applyTransform(codes.convert(mode), change))[0, :, 0])
