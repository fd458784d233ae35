"""Unpack a head that was compressed, by `joblib.dump(compress=…)` or by hand.

In come the bytes of a file, out come those of the head in it, at most so many. Bytes that are not
compressed stay as they are; what they hold is not looked at here.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from features.errors import FileRefused

# Of lzma's dictionary, which a file asks for.
_MAX_MEMORY = 2**27
# How each kind begins, and what unpacks it. A head that is not compressed begins with 0x80.
_KINDS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x78", zlib.decompressobj),
    (b"\x1f\x8b", lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(memlimit=_MAX_MEMORY)),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(memlimit=_MAX_MEMORY)),
)
# Kinds that Python can't unpack by itself, or that hold several files.
_UNKNOWN = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}


def unpacked(data: bytes, most: int) -> bytes:
    """Unpack what is compressed with zlib, gzip, bzip2, xz or lzma.

    Parameters
    ----------
    data : bytes
        Of a file.
    most : int
        Bytes that may come out.

    Raises
    ------
    FileRefused
        More would come out, the data are damaged, or they are compressed in another way.

    Examples
    --------
    >>> unpacked(zlib.compress(b"a head"), 100), unpacked(b"a head", 100)
    (b'a head', b'a head')
    """
    for start, name in _UNKNOWN.items():
        if data.startswith(start):
            raise FileRefused(f"it is packed with {name}: unpack it, and give the head itself")
    found = next((make for start, make in _KINDS if data.startswith(start)), None)
    if found is None:
        return data
    unpacker = found()
    try:
        content: bytes = unpacker.decompress(data, most + 1)
    except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise FileRefused(f"it is compressed, and damaged: {error}") from error
    if len(content) > most:
        raise FileRefused(f"unpacked it has more than {most:,} bytes; a head has no more")
    if not unpacker.eof or unpacker.unused_data:
        raise FileRefused("it is compressed, and cut short or followed by something else")
    return content
