"""EXIF, XMP and IPTC: nothing is lost, the mark is set once, and what is broken costs only itself."""

import struct
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sift_colorize.metadata import (
    KIND,
    RDF,
    SOURCE_TYPE,
    iptc_as_png,
    iptc_as_resource,
    iptc_of_png,
    iptc_of_resources,
    is_marked,
    marked,
    plain_exif,
    resolution,
    upright_xmp,
)

IPTC = b"\x1c\x02\x5a\x00\x06Bremen"
FILM = "http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm"
RICH = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 5.5.0">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:own="http://own.example/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType="{FILM}"
    own:shelf="7">
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Der große Hafen &amp; mehr</rdf:li></rdf:Alt></dc:title>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


def root_of(xmp):
    return ET.fromstring(xmp.decode("utf-8").strip("\ufeff"))


def test_the_mark_stands_beside_all_that_was_said():
    xmp = marked(RICH, "sift_colorize 1.2", "abc123")
    root = root_of(xmp)
    assert [element.text for element in root.iter(KIND)] == [SOURCE_TYPE]
    assert not [element for element in root.iter() if KIND in element.attrib]
    text = xmp.decode()
    for said in (
        "Der große Hafen &amp; mehr",
        'shelf="7"',
        "sift_colorize 1.2",
        "abc123",
        FILM,
        "uuid:1",
        "own:",
        "dc:title",
    ):
        assert said in text
    abouts = {element.get(f"{{{RDF}}}about") for element in root.iter(f"{{{RDF}}}Description")}
    assert abouts == {"uuid:1"}


def test_a_second_time_adds_an_entry_to_the_history_alone():
    twice = marked(marked(RICH, "s 1", "first"), "s 2", "second")
    root = root_of(twice)
    assert len(list(root.iter(KIND))) == 1 and len([e for e in root.iter() if e.tag.endswith("softwareAgent")]) == 2
    assert b"first" in twice and b"second" in twice and twice.count(FILM.encode()) == 1


@pytest.mark.parametrize(
    "xmp",
    [None, b"", b"no xml", b"<a><b></a>", b"<x:xmpmeta/>", b"\xff\xfe\x00", b"<a>" * 200 + b"</a>" * 200,
     b'<!DOCTYPE a [<!ENTITY b "cccc">]><a>&b;</a>', b"<a/>", f'<r:RDF xmlns:r="{RDF}"/>'.encode()],
)  # fmt: skip
def test_what_is_broken_or_hostile_is_replaced(xmp):
    made = marked(xmp, "s", "0")
    assert is_marked(made) and not is_marked(xmp)
    assert [element.text for element in root_of(made).iter(KIND)] == [SOURCE_TYPE]


@given(st.binary(max_size=300))
def test_any_bytes_can_be_marked(xmp):
    made = marked(xmp, "s", "0")
    assert is_marked(made)
    root_of(made)


def test_orientation_in_xmp_is_made_plain():
    for written in (b'tiff:Orientation="6"', b"tiff:Orientation='6'", b"<tiff:Orientation>6</tiff:Orientation>"):
        plain, said = upright_xmp(b"<a " + written + b"/>")
        assert said == 6 and plain == (b"<a " + written + b"/>").replace(b"6", b"1")
    assert upright_xmp(b"<a/>") == (b"<a/>", None)


@given(st.integers(0, 255), st.integers(0, 26))
def test_a_cut_exif_block_says_its_orientation_as_far_as_there_is_one(orientation, size):
    block = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    plain, said = plain_exif(block[:size])
    assert said == (orientation if orientation in range(1, 9) and size >= 20 else None)
    assert plain == (struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x112, 3, 1, 1, 0, 0) if size == 26 else None)


@given(st.binary(min_size=1, max_size=300))
def test_iptc_survives_its_wrappings(datasets):
    iptc = b"\x1c" + datasets
    other = b"8BIM\x04\x0b\x00\x00\x00\x00\x00\x03url\x00"
    assert iptc_of_resources(iptc_as_resource(iptc)) == iptc
    assert iptc_of_resources(other + iptc_as_resource(iptc)) == iptc
    assert iptc_of_png(iptc_as_png(iptc)) == iptc


@given(st.binary(max_size=200))
def test_any_bytes_hold_iptc_or_none(block):
    for found in (iptc_of_resources(block), iptc_of_png(block.decode("latin-1"))):
        assert found is None or found


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ((300, 150), (300.0, 150.0)),
        ((0, 0), None),
        (None, None),
        (("x", 1), None),
        ((float("nan"), 1), None),
        ((1e9, 1), None),
    ],
)
def test_a_resolution_is_two_sensible_numbers(said, wanted):
    assert resolution(said) == wanted
