"""What can happen to the bytes of a file: as a strategy of hypothesis, and one flipped byte."""

import h5py
from hypothesis import strategies as st


@st.composite
def damaged(draw, content, start=0):
    """Give a content after one to three changes, none of them before `start`.

    Bits flip, blocks turn to zeros or to anything, bytes come in between, the end is lost.
    """
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(start, max(start, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "zeros", "anything", "insert", "cut"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "zeros":
            end = min(len(data), at + draw(st.sampled_from([1, 16, 512, 4096])))
            data[at:end] = bytes(end - at)
        elif kind == "anything":
            some = draw(st.binary(min_size=1, max_size=64))[: len(data) - at]
            data[at : at + len(some)] = some
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "cut":
            del data[at:]
    return bytes(data)


def first_change(content, changed):
    """Where two contents begin to differ: the shorter one's length if it is the other's start."""
    pairs = enumerate(zip(content, changed, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(content), len(changed)))


def flip_a_byte(path, name, chunk=0):
    with h5py.File(path, "r") as file:
        place = file[name].id.get_chunk_info(chunk).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 1] ^= 0x01
    path.write_bytes(content)
