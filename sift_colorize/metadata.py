"""What a photo file says beside its pixels: EXIF, XMP, IPTC, resolution; and the mark that its colours were predicted.

All of it is carried as the blocks of bytes that it came in, so that nothing of it is lost that is not understood here.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION, EXIF_IFD, GPS_IFD = 0x0112, 0x8769, 0x8825  # tags of TIFF, and of EXIF, which is one
XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG, ICC_TAG = 700, 33723, 34377, 34675  # tags of TIFF
OFFSETS = (0x927C, 0xA005)  # maker notes and interoperability: offsets that would point nowhere elsewhere
TEXT_TAGS = (0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
PAGE_NUMBER = 0x0129
IPTC_RESOURCE = b"8BIM\x04\x04"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": RDF,
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
}
KIND, HISTORY = f"{{{NAMESPACES['Iptc4xmpExt']}}}DigitalSourceType", f"{{{NAMESPACES['xmpMM']}}}History"
DESCRIPTION, SEQUENCE, ITEM = (f"{{{RDF}}}{name}" for name in ("Description", "Seq", "li"))
DEEPEST = 50  # elements inside each other
PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{}\n<?xpacket end="w"?>'


@dataclass(frozen=True)
class Metadata:
    """What stands beside the pixels.

    exif : TIFF-shaped EXIF block without the leading ``Exif\\0\\0``; its orientation is 1, its thumbnail left out.
    icc : colour profile that the pixels are in, or None for sRGB.
    xmp : XMP packet.
    iptc : IPTC-IIM datasets.
    dpi : (x, y), or None.
    text : other texts, as (name, text): those of PNG, and the comment of JPEG.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()

    def kinds(self) -> list[str]:
        """Return the names of what there is."""
        found = {"EXIF": self.exif, "ICC profile": self.icc, "XMP": self.xmp, "IPTC": self.iptc, "text": self.text}
        return [name for name, value in found.items() if value]


PLAIN = Metadata()


def resolution(dpi) -> tuple[float, float] | None:
    """Return what a file says of its resolution as a pair of floats; None if that is none."""
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


# EXIF


def plain_exif(exif: bytes) -> tuple[bytes | None, int | None]:
    """Return EXIF with orientation 1 and no thumbnail (it would stay grey), and the orientation that it had.

    Patched in place: writing it anew would lose maker notes, whose offsets count from the start of the block.
    """
    block = bytearray(exif.removeprefix(b"Exif\0\0"))
    orientation = None
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(block[:2])]
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag == ORIENTATION:
                form = order + ("H" if kind == 3 else "I")
                (said,) = struct.unpack_from(form, block, at + 8)
                orientation = said if said in range(1, 9) else None
                struct.pack_into(form, block, at + 8, 1)
        struct.pack_into(order + "I", block, start + 2 + 12 * count, 0)
    except (KeyError, struct.error):
        return None, orientation
    return bytes(block), orientation


def exif_of_tiff(file: BinaryIO, offset: int | None = None, orientation: int = 1) -> bytes | None:
    """Return an EXIF block with what a TIFF says of the photo, without what it says of its own layout.

    Parameters
    ----------
    file : binary file
    offset : int, optional
        Where the page's directory lies; without it, that of the first.
    orientation : int
        To be put into the block.
    """
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    try:
        tags = _directory(file, offset)
        for tag in (*TEXT_TAGS, PAGE_NUMBER):
            if tag in tags:
                exif[tag] = as_stored(tags[tag])
        for group in (EXIF_IFD, GPS_IFD):
            if group in tags:
                kept = {tag: value for tag, value in _directory(file, tags[group], group).items() if tag not in OFFSETS}
                exif.get_ifd(group).update(kept)
        block = exif.tobytes()
    except Exception:  # EXIF of odd makers fails in many ways, and is not worth the photo
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        block = exif.tobytes()
    return block if len(block) > 20 else None  # more than an empty block


def as_stored(value: Any) -> Any:
    """Return the value of a tag; of a text its bytes, which Pillow reads as Latin-1 and would write as ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def _directory(file: BinaryIO, offset: int | None, group: int | None = None) -> ImageFileDirectory_v2:
    file.seek(0)
    head = file.read(16)
    is_big = head[2:4] in (b"+\0", b"\0+")
    directory = ImageFileDirectory_v2(head if is_big else head[:8], group=group)
    file.seek(directory.next if offset is None else offset)
    directory.load(file)
    return directory


# IPTC


def iptc_of_resources(block: bytes) -> bytes | None:
    """Return the IPTC datasets in a block of Photoshop's image resources ("8BIM"), or None."""
    at = 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        name = block[at + 6] + 1
        size_at = at + 6 + name + name % 2
        (size,) = struct.unpack_from(">I", block.ljust(size_at + 4, b"\0"), size_at)
        if block[at : at + 6] == IPTC_RESOURCE:
            return block[size_at + 4 : size_at + 4 + size] or None
        at = size_at + 4 + size + size % 2
    return None


def iptc_as_resource(iptc: bytes) -> bytes:
    """Return IPTC datasets as one of Photoshop's image resources."""
    return IPTC_RESOURCE + b"\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_of_png(text: str) -> bytes | None:
    """Return the IPTC datasets in PNG's text "Raw profile type iptc" (ImageMagick, exiftool), or None."""
    try:
        block = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None
    return iptc_of_resources(block) or (block if block[:1] == b"\x1c" else None)


def iptc_as_png(iptc: bytes) -> str:
    """Return IPTC datasets as PNG's text "Raw profile type iptc"."""
    digits = iptc_as_resource(iptc).hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\niptc\n{len(digits) // 2:8}\n{lines}\n"


# XMP


def upright_xmp(xmp: bytes) -> tuple[bytes, int | None]:
    """Return XMP with orientation 1, and the orientation that it had."""
    pattern = rb"""(tiff:Orientation(?:=["']|>))([1-8])"""
    said = re.search(pattern, xmp)
    return re.sub(pattern, rb"\g<1>1", xmp), int(said[2]) if said else None


def marked(xmp: bytes | None, software: str, model_digest: str) -> bytes:
    """Return XMP that says, beside all that it said, that the colours were predicted.

    Set is the IPTC digital source type `algorithmicallyEnhanced`; the history gets an entry with the software, the
    model's digest, and the source type that stood there before. XMP that is no XML is replaced.
    """
    root = _parsed(xmp) if xmp else None
    if root is None:
        root = ET.fromstring(f'<x:xmpmeta xmlns:x="{NAMESPACES["x"]}"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>')
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        rdf = ET.SubElement(root, f"{{{RDF}}}RDF")
    about = f"{{{RDF}}}about"
    descriptions = rdf.findall(DESCRIPTION)
    before = _removed(descriptions)
    said = f"; source type before: {before}" if before and before != SOURCE_TYPE else ""
    history = next((one for part in descriptions for one in part.findall(HISTORY)), None)
    if history is None:
        same = descriptions[0].get(about, "") if descriptions else ""
        home = ET.SubElement(rdf, DESCRIPTION, {about: same})
        history = ET.SubElement(home, HISTORY)
    else:
        home = next(part for part in descriptions if history in list(part))
    ET.SubElement(home, KIND).text = SOURCE_TYPE
    sequence = history.find(SEQUENCE)
    sequence = ET.SubElement(history, SEQUENCE) if sequence is None else sequence
    event = ET.SubElement(sequence, ITEM, {f"{{{RDF}}}parseType": "Resource"})
    for name, text in (
        ("action", "converted"),
        ("softwareAgent", software),
        ("parameters", f"colours predicted from the grey photo by the model {model_digest}{said}"),
    ):
        ET.SubElement(event, f"{{{NAMESPACES['stEvt']}}}{name}").text = text
    return PACKET.format(ET.tostring(root, "unicode")).encode()


def is_marked(xmp: bytes | None) -> bool:
    """Say whether XMP tells that the colours were predicted."""
    return xmp is not None and SOURCE_TYPE.encode() in xmp


def _parsed(xmp: bytes) -> ET.Element | None:
    # A document type may define entities without end; XMP has none.
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
        return None
    names = {uri: prefix for prefix, uri in NAMESPACES.items()}
    try:
        text = xmp.decode("utf-8-sig").strip("\0 \n\r\t")
        root, depth = None, 0
        parser: ET.XMLPullParser = ET.XMLPullParser(("start-ns", "start", "end"))
        parser.feed(text)
        event: Any
        for event in parser.read_events():
            kind, found = event
            if kind == "start-ns":
                names.setdefault(found[1], found[0])
                continue
            root = found if root is None else root
            depth += 1 if kind == "start" else -1
            if depth > DEEPEST:
                return None
        parser.close()
    except (ET.ParseError, UnicodeDecodeError, ValueError):
        return None
    for uri, prefix in names.items():
        if prefix and not re.fullmatch(r"ns\d+", prefix):
            ET.register_namespace(prefix, uri)
    return root


def _removed(descriptions: list[ET.Element]) -> str | None:
    """Take the digital source type out, element or attribute, and return it."""
    found = None
    for part in descriptions:
        found = part.attrib.pop(KIND, None) or found
        for element in part.findall(KIND):
            found = (element.text or "").strip() or found
            part.remove(element)
    return found
