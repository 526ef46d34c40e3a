"""Kernels of `jpegs`: its entropy coding, sequential and with Huffman codes (ITU-T T.81, annex F), and its colours."""

import numpy as np
from numba import njit

_U = np.uint64


@njit(cache=True, nogil=True)
def _fill(data, at, bits, count):
    """Take bytes into the upper end of `bits` until 48 are there; behind a marker, or the end, come zeros."""
    while count <= 48:
        byte = _U(0)
        if at < len(data):
            byte = _U(data[at])
            if data[at] == 0xFF:
                if at + 1 < len(data) and data[at + 1] == 0:
                    at += 2
                else:  # stay at the marker
                    byte = _U(0)
            else:
                at += 1
        bits |= byte << _U(56 - count)
        count += 8
    return at, bits, count


@njit(cache=True, nogil=True)
def _extended(bits, size):
    """The value of `size` bits at the upper end: those that begin with 0 are negative."""
    value = np.int64(bits >> _U(64 - size))
    return value if value >= (1 << (size - 1)) else value - (1 << size) + 1


@njit(cache=True, nogil=True)
def luma_blocks(data, mcus, across, parts, codes, restart, out):
    """Coefficients of the first component, zigzag, into out (rows, cols, 64) int16; returns whether all were there.

    data : (n,) uint8, the coded data of a scan; mcus : how many, `across` in a row.
    parts : (blocks of a MCU, 5) of component, table of DC, of AC, and row and column in the MCU.
    codes : (tables, 65536) int32; for each 16 bits that come next, 256 × length of the code + symbol; 0 is none.
    restart : MCUs after which a marker stands, or 0.
    """
    tall, wide = 0, 0
    for part in range(len(parts)):
        if parts[part, 0] == 0:
            tall, wide = max(tall, parts[part, 3] + 1), max(wide, parts[part, 4] + 1)
    before = np.zeros(4, np.int64)
    at, bits, count = 0, _U(0), 0
    for mcu in range(mcus):
        if restart and mcu and mcu % restart == 0:
            while at + 1 < len(data) and not (data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7):
                at += 1
            at, bits, count = at + 2, _U(0), 0
            before[:] = 0
        for part in range(len(parts)):
            component = parts[part, 0]
            row = (mcu // across) * tall + parts[part, 3]
            col = (mcu % across) * wide + parts[part, 4]
            if at >= len(data) and count <= 0:
                return False
            at, bits, count = _fill(data, at, bits, count)
            found = codes[parts[part, 1], bits >> _U(48)]
            length, size = found >> 8, found & 255
            if found == 0 or size > 15:
                return False
            bits, count = bits << _U(length), count - length
            if size:
                before[component] += _extended(bits, size)
                bits, count = bits << _U(size), count - size
            if component == 0:
                out[row, col, 0] = before[0]
            k = 1
            while k < 64:
                at, bits, count = _fill(data, at, bits, count)
                found = codes[parts[part, 2], bits >> _U(48)]
                length, run, size = found >> 8, (found >> 4) & 15, found & 15
                if found == 0:
                    return False
                bits, count = bits << _U(length), count - length
                if size == 0:
                    if run < 15:
                        break
                    k += 16
                    continue
                k += run
                if k > 63:
                    return False
                value = _extended(bits, size)
                bits, count = bits << _U(size), count - size
                if component == 0:
                    out[row, col, k] = value
                k += 1
    return True


@njit(cache=True, nogil=True)
def _size(value):
    size = 0
    while abs(value) >> size:
        size += 1
    return size


@njit(cache=True, nogil=True)
def _put(out, at, bits, count, code, length):
    """Append `length` bits; write whole bytes, with a zero behind each 255; out of length 0 is only counted."""
    bits = (bits << length) | code
    count += length
    while count >= 8:
        byte = (bits >> (count - 8)) & 255
        if len(out):
            out[at] = byte
        at += 1
        if byte == 255:
            if len(out):
                out[at] = 0
            at += 1
        count -= 8
    return at, bits & ((1 << count) - 1), count


@njit(cache=True, nogil=True)
def grey_scan(blocks, rows, cols, codes, lengths, out):
    """Code the first `rows` × `cols` of blocks (…, 64) int16, zigzag; returns the number of bytes.

    codes, lengths : (2, 256) of DC and AC symbols. With an `out` of length 0 nothing is written.
    """
    at, bits, count, before = 0, 0, 0, np.int64(0)
    for row in range(rows):
        for col in range(cols):
            block = blocks[row, col]
            value = np.int64(block[0]) - before
            before = np.int64(block[0])
            size = _size(value)
            at, bits, count = _put(out, at, bits, count, codes[0, size], lengths[0, size])
            if size:
                coded = value if value > 0 else value + (1 << size) - 1
                at, bits, count = _put(out, at, bits, count, coded, size)
            run = 0
            for k in range(1, 64):
                value = np.int64(block[k])
                if value == 0:
                    run += 1
                    continue
                while run > 15:
                    at, bits, count = _put(out, at, bits, count, codes[1, 0xF0], lengths[1, 0xF0])
                    run -= 16
                size = _size(value)
                symbol = run << 4 | size
                at, bits, count = _put(out, at, bits, count, codes[1, symbol], lengths[1, symbol])
                coded = value if value > 0 else value + (1 << size) - 1
                at, bits, count = _put(out, at, bits, count, coded, size)
                run = 0
            if run:
                at, bits, count = _put(out, at, bits, count, codes[1, 0], lengths[1, 0])
    if count:
        at, bits, count = _put(out, at, bits, count, (1 << (8 - count)) - 1, 8 - count)
    return at


@njit(cache=True, nogil=True)
def colours(y, cb, cr, out):
    """RGB (n, 3) uint8 of luma and chroma (n,) uint8, in the fixed point of libjpeg: 1.402, 0.34414, 0.71414, 1.772."""
    for i in range(y.size):
        luma, blue, red = np.int32(y[i]), np.int32(cb[i]) - 128, np.int32(cr[i]) - 128
        out[i, 0] = min(max(luma + ((91881 * red + 32768) >> 16), 0), 255)
        out[i, 1] = min(max(luma + ((-22554 * blue - 46802 * red + 32768) >> 16), 0), 255)
        out[i, 2] = min(max(luma + ((116130 * blue + 32768) >> 16), 0), 255)
