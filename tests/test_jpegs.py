"""The luma of a JPEG stays as it is stored, to the last bit, whatever coded it."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sift_colorize.checks import PhotoError
from sift_colorize.jpegs import LumaCoding, apart, colours, with_chroma
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


@pytest.mark.parametrize("options", [*OPTIONS, {"progressive": True}])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 16), (61, 93)])
def test_a_file_whose_components_stand_one_by_one_is_decoded_one_by_one(shape, options):
    data = coded(rough(*shape), quality=80, **options)
    whole = b"".join(with_chroma(data, (rough(*shape), rough(*shape)), CHROMA, b"\xff\xd8"))
    planes = [np.asarray(Image.open(io.BytesIO(part))) for part in apart(whole)]
    image = Image.open(io.BytesIO(whole))
    image.draft("YCbCr", None)
    np.testing.assert_array_equal(np.stack(planes, 2), np.asarray(image))
    np.testing.assert_array_equal(colours(*planes), np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")))
    bgr = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(colours(*planes), bgr[..., ::-1])


@pytest.mark.kernel
def test_colours_are_those_of_the_standard():
    values = np.array([0, 1, 64, 127, 128, 129, 200, 254, 255], np.uint8)
    y, cb, cr = (plane.reshape(27, 27) for plane in np.meshgrid(values, values, values))
    wanted = [
        (y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128))
        for y, cb, cr in zip(*(plane.ravel().tolist() for plane in (y, cb, cr)), strict=True)
    ]
    found = colours(y, cb, cr)
    assert found.shape == (27, 27, 3) and np.abs(found.reshape(-1, 3) - np.clip(wanted, 0, 255)).max() <= 0.51
    np.testing.assert_array_equal(colours(y.T, cb.T, cr.T), found.transpose(1, 0, 2))


def test_what_does_not_stand_one_by_one_is_not_taken_apart():
    picture = rough(40, 40, (3,))
    whole = b"".join(with_chroma(coded(picture[..., 0]), (picture[..., 1], picture[..., 2]), CHROMA, b"\xff\xd8"))
    assert apart(whole) is not None
    for data in (coded(picture), coded(picture[..., 0]), coded(picture, progressive=True), whole[:-900], b"", b"RIFF"):
        assert apart(data) is None


@pytest.mark.parametrize("marker", ["adobe", "names"])
def test_the_red_of_a_file_that_codes_rgb_is_not_its_luma(tmp_path, marker):
    picture = cv2.GaussianBlur(rough(64, 80, (3,)), (0, 0), 2)
    data = coded(picture, quality=95, keep_rgb=True)
    if marker == "names":  # as libjpeg tells it where nobody says so
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
        assert b"\x03R\x11" in data
    path = tmp_path / "rgb.jpg"
    path.write_bytes(data)
    assert np.abs(np.asarray(Image.open(path), int) - picture).max() < 12
    with opened(path) as (page,):
        assert np.abs(np.asarray(page.pixels, int) - np.asarray(Image.fromarray(picture).convert("L"))).max() < 12
        assert page.luma_coding.grey is None


def test_pillows_own_limit_is_not_asked(tmp_path, monkeypatch):
    picture = rough(60, 70)
    path = tmp_path / "large.jpg"
    path.write_bytes(b"".join(with_chroma(coded(picture), (picture, picture), CHROMA, b"\xff\xd8")))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it raises at twice as many
    with opened(path) as (page,):
        assert np.asarray(page.pixels).shape == (60, 70)
