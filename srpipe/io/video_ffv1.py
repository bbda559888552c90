"""The checksums in FFV1 (RFC 9043): where they fail, libav mends slices without a word."""

import zlib

FOOTER = 8  # bytes: the slice's size in 3, its error status in 1, its CRC-32 in 4
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Of each byte, its bits from last to first: the order in which zlib takes them."""


class SliceSums:
    """Tells packets with a wrong checksum from whole ones, in a stream that has them.

    It is known of a stream by the first packet whose slices all have right ones.
    """

    def __init__(self) -> None:
        self._there = False

    def hold(self, packet: bytes) -> bool:
        """Whether nothing speaks against a packet."""
        right = _all_right(packet)
        self._there |= right
        return right or not self._there


def _all_right(packet: bytes) -> bool:
    """Whether slices fill the packet, each with the checksum that its footer has."""
    stop = len(packet)
    while stop >= FOOTER:
        start = stop - FOOTER - int.from_bytes(packet[stop - FOOTER : stop - FOOTER + 3])
        body = packet[max(start, 0) : stop].translate(_MIRRORED)
        if start < 0 or zlib.crc32(body, 0xFFFFFFFF) != 0xFFFFFFFF:  # 0, as the footer makes it
            return False
        stop = start
    return stop == 0
