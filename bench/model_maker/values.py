"""Random numbers and bytes that depend on a seed and a name, in pieces."""
import hashlib
import math
import statistics

import numpy as np

CHUNK_BYTES = 8 << 20  # what is held in memory at a time; a multiple of 8


class Source:
    """Random bytes that depend on the seed and a name alone."""

    def __init__(self, seed, name):
        key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        # PCG64's raw stream is the same in every numpy version.
        self.bits = np.random.PCG64(int.from_bytes(key, "little"))

    def draw(self, size):
        """The next `size` bytes; what is left of the last eight is lost."""
        words = self.bits.random_raw((size + 7) // 8).astype("<u8", copy=False)
        return words.view(np.uint8)[:size]

    def chunks(self, size):
        """`size` bytes in pieces of CHUNK_BYTES; only the last may be shorter."""
        while size > 0:
            count = min(size, CHUNK_BYTES)
            yield self.draw(count)
            size -= count

    def levels(self, count):
        """`count` integers, uniform in 0..65535, in pieces."""
        for piece in self.chunks(2 * count):
            yield piece.view("<u2")


def float_bytes(values, dtype):
    """float32 values as the bytes of `dtype`, rounded to nearest even."""
    values = np.ascontiguousarray(values, "<f4")
    if dtype == "f32":
        return values.view(np.uint8)
    if dtype == "f16":
        return values.astype("<f2").view(np.uint8)
    words = values.view("<u4")
    rounded = words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2").view(np.uint8)


def uniform_weights(source, count, std):
    """Centred values with standard deviation `std`."""
    step = np.float32(std * math.sqrt(12) / 65536)
    for levels in source.levels(count):
        yield (levels.astype("<f4") - np.float32(32767.5)) * step


def norm_weights(source, norm):
    """Values in 0.75..1.25, so that a norm that is left out is seen. A signed
    one is negative at random: after the last norm this keeps a tied head from
    answering every token with itself."""
    for levels in source.levels(norm.size):
        values = 0.75 + 0.5 * (levels >> 1).astype("<f4") / 32768
        if norm.ones:
            values = np.ones_like(values)
        if norm.signed:
            values = np.where(levels & 1, -values, values)
        yield values


def group_scales(source, count, std, bits):
    """Scales that spread around what gives uniform levels the deviation `std`;
    one in four is negative, as real ones may be."""
    base = std / math.sqrt((4**bits - 1) / 12)
    for levels in source.levels(count):
        values = base * (0.75 + 0.5 * (levels >> 2).astype("<f4") / 16384)
        yield values * np.where(levels & 3, 1, -1).astype("<f4")


def group_biases(scales, source, count, bits):
    """Biases that centre each group, nearly: a tenth of play."""
    for scale, levels in zip(scales, source.levels(count)):
        play = 1 + 0.1 * (levels.astype("<f4") / 32768 - 1)
        yield -scale * ((2**bits - 1) / 2) * play


# The numbers of the codes 0..7 of E2M1; bit 3 is the sign.
E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6)


def e8m0_scales(draws, std):
    """Powers of two as E8M0 bytes, from `draws` that are uniform in 0..1: two
    neighbouring ones, in the shares that give uniform E2M1 codes the deviation
    `std`."""
    scale = std / math.sqrt(sum(number**2 for number in E2M1) / len(E2M1))
    least = math.floor(math.log2(scale))
    share = ((scale / 2.0**least) ** 2 - 1) / 3
    return (least + 127 + (draws < share)).astype(np.uint8)


def e2m1_constant(value, count):
    """(codes, E8M0 byte) of `count` numbers around `value`, at least 0, whose mean
    is as near to it as so many allow. A single code may be far from it."""
    if value == 0:
        return np.zeros(count, np.uint8), 127
    exponent = math.floor(math.log2(value / 3))
    size = value / 2.0**exponent  # 3..6
    low, high = (5, 6) if size < 4 else (6, 7)
    highs = round(count * (size - E2M1[low]) / (E2M1[high] - E2M1[low]))
    return np.array([high] * highs + [low] * (count - highs), np.uint8), exponent + 127


def normal_values(source, count):
    """`count` values of the standard normal distribution; for short lists."""
    inverse = statistics.NormalDist().inv_cdf
    levels = np.concatenate(list(source.levels(count)))
    return np.array([inverse((int(level) + 0.5) / 65536) for level in levels], "<f4")


def overlay(pieces, width, columns, quiet):
    """A matrix in pieces of rows of `width` values, with two things changed: the
    first values of every row are those of `columns` (each one for all rows, or one
    for each of them), and the first `quiet` rows are zero."""
    start = 0
    for piece in pieces:
        for column, value in enumerate(columns):
            at = (column - start) % width
            places = piece[at::width]
            row = (start + at) // width
            places[:] = value if np.isscalar(value) else value[row:row + len(places)]
        piece[:max(quiet * width - start, 0)] = 0
        start += len(piece)
        yield piece
