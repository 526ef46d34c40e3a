"""A classifier as an ONNX file, written by hand: the mean of each channel."""

from __future__ import annotations

from pathlib import Path


def write_classifier(path: Path, size: int = 224) -> Path:
    """Write a network that takes (1, 3, size, size), nothing else, and gives the means of its channels, (1, 3)."""
    nodes = [_node("Reshape", ("picture", "shape"), "row"), _node("GlobalAveragePool", ("row",), "means")]
    nodes += [_node("Flatten", ("means",), "answers")]
    shape = b"".join(side.to_bytes(8, "little") for side in (1, 3, size * size, 1))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"means")
    graph += _field(5, _number(1, 4) + _number(2, 7) + _field(8, b"shape") + _field(9, shape))
    graph += _field(11, _value("picture", (1, 3, size, size))) + _field(12, _value("answers", (1, 3)))
    path.write_bytes(_number(1, 8) + _field(7, graph) + _field(8, _number(2, 11)))
    return path


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(kind: str, sources: tuple[str, ...], target: str) -> bytes:
    return (
        b"".join(_field(1, source.encode()) for source in sources)
        + _field(2, target.encode())
        + _field(4, kind.encode())
    )


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(_field(1, _number(1, side)) for side in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, dimensions)))
