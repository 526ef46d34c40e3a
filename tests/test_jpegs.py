"""The luma of a JPEG stays as it is stored, to the last bit, whatever coded it."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sift_colorize.checks import PhotoError
from sift_colorize.jpegs import LumaCoding, with_chroma
from sift_colorize.opencv import cv2
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo, opened

RNG = np.random.default_rng(11)
CHROMA = [17] * 64


def coded(picture, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def luma_in(data):
    """What libjpeg reads: the reference."""
    image = Image.open(io.BytesIO(data))
    image.draft("L", None)
    return np.asarray(image.convert("L") if image.mode != "L" else image)


def coding_of(data):
    return LumaCoding(tuple(Image.open(io.BytesIO(data)).quantization[0]), data)


def rough(height, width, channels=()):
    """Steep enough that values are cut to 0…255 when it is decoded: what is coded again would lose that."""
    return np.clip(RNG.normal(128, 90, (height, width, *channels)), 0, 255).astype(np.uint8)


OPTIONS = [{}, {"restart_marker_blocks": 3}, {"optimize": True}]


@pytest.mark.parametrize("options", [*OPTIONS, {"progressive": True}])
@pytest.mark.parametrize("quality", [5, 60, 93])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 16), (61, 93)])
def test_a_grey_file_takes_chroma_and_keeps_its_luma(shape, quality, options):
    data = coded(rough(*shape), quality=quality, **options)
    planes = rough(*shape) // 4 + 96, rough(*shape) // 4 + 96
    whole = b"".join(with_chroma(coding_of(data).grey, planes, CHROMA, b"\xff\xd8"))
    np.testing.assert_array_equal(luma_in(whole), luma_in(data))
    image = Image.open(io.BytesIO(whole))
    image.draft("YCbCr", None)
    for number, plane in enumerate(planes, 1):
        again = coded(plane, qtables=[CHROMA])  # the same plane coded as a grey picture
        np.testing.assert_array_equal(np.asarray(image)[..., number], np.asarray(Image.open(io.BytesIO(again))))
    assert cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR).shape == (*shape, 3)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [5, 60, 93])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 16), (61, 93)])
def test_the_luma_of_a_file_in_colour_is_taken_out_as_it_is(shape, quality, subsampling, options):
    data = coded(rough(*shape, (3,)), quality=quality, subsampling=subsampling, **options)
    grey = coding_of(data).grey
    assert Image.open(io.BytesIO(grey)).mode == "L"
    np.testing.assert_array_equal(luma_in(grey), luma_in(data))
    twice = b"".join(with_chroma(grey, (rough(*shape), rough(*shape)), CHROMA, b"\xff\xd8"))
    np.testing.assert_array_equal(luma_in(coding_of(twice).grey), luma_in(data))  # its scans stand one by one


def test_opencv_codes_others_too():
    picture = rough(50, 70, (3,))
    for factor in ("411", "420", "422", "440", "444"):
        option = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}")
        _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, option))
        data = data.tobytes()
        np.testing.assert_array_equal(luma_in(coding_of(data).grey), luma_in(data))


def test_what_can_not_be_copied_is_not():
    progressive = coded(rough(20, 30, (3,)), progressive=True)
    assert coding_of(progressive).grey is None and len(coding_of(progressive).table) == 64
    cmyk = io.BytesIO()
    Image.fromarray(rough(20, 30, (4,)), "CMYK").save(cmyk, "JPEG")
    assert coding_of(cmyk.getvalue()).grey is None


WHOLE = coded(rough(24, 24, (3,)), quality=50)


@settings(deadline=None)
@given(st.data())
def test_damage_is_no_crash(data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = LumaCoding((1,) * 64, bytes(content[: data.draw(st.integers(2, len(content)))]))
    assert found.grey is None or Image.open(io.BytesIO(found.grey)).size


def test_a_turned_picture_keeps_its_quantisation_where_its_blocks_fall_on_blocks():
    table = tuple(range(64))
    coding = LumaCoding(table, b"x")
    assert coding.turned(6, (16, 9)) == LumaCoding(tuple(np.reshape(table, (8, 8)).T.ravel().tolist()))
    assert coding.turned(6, (9, 16)) is None and coding.turned(8, (9, 16)) is not None
    assert coding.turned(3, (16, 16)) == LumaCoding(table) and coding.turned(3, (16, 9)) is None
    assert coding.turned(5, (9, 9)) is not None


def test_a_photo_that_was_no_jpeg_loses_least(tmp_path):
    grey = rough(64, 64)
    drift = {}
    for quality in (None, 95):
        write(tmp_path / "x.jpg", Photo(np.dstack([grey] * 3)), quality)
        with opened(tmp_path / "x.jpg") as (page,):
            drift[quality] = np.abs(page.pixels - grey.astype(int))
    assert drift[None].max() <= 2 and drift[None].mean() < 0.4 < drift[95].mean()


def test_a_frame_of_impossible_size_is_refused_before_memory_is_asked_for(tmp_path):
    data = bytearray(coded(rough(16, 16, (3,))))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    assert LumaCoding((1,) * 64, bytes(data[:400])).grey is None
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(PhotoError, match="4,290,250,000 pixels"), opened(tmp_path / "x.jpg"):
        pass
