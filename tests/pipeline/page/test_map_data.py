"""The map's blocks, read back as the page reads them."""

import base64
import dataclasses
import gzip
import json

import numpy as np
import pytest
from report_examples import HOSTILE, example_points

from pipeline.page.map_data import pack, some_of
from pipeline.page.size_limit import fitted
from pipeline.page.words import clean


def arrays_of(blocks):
    """The arrays, in the order and of the types that `page.js` reads."""
    content, found, at = gzip.decompress(base64.b64decode(blocks.arrays)), {}, 0
    for name, kind in (
        ("row", "<u4"),
        ("x", "<u2"),
        ("y", "<u2"),
        ("label", "<i2"),
        ("predicted", "<i2"),
        ("probability", "u1"),
    ):
        found[name] = np.frombuffer(content, kind, blocks.rows, at)
        at += found[name].nbytes
    assert at == len(content)
    return found


def names_of(blocks):
    return json.loads(gzip.decompress(base64.b64decode(blocks.names)))


def test_what_is_packed_comes_back():
    points = example_points()
    points = dataclasses.replace(points, rows=points.rows + 70_000)
    blocks = pack(points, None)
    arrays, names = arrays_of(blocks), names_of(blocks)
    np.testing.assert_array_equal(arrays["row"], points.rows)
    np.testing.assert_array_equal(arrays["label"], points.label)
    np.testing.assert_array_equal(arrays["predicted"], points.predicted)
    np.testing.assert_allclose(
        arrays["probability"] / 255, points.probability, atol=0.5 / 255 + 1e-6
    )
    span = np.ptp(points.xy, axis=0)
    assert names["spans"] == pytest.approx(span / span.max())
    xy = np.stack([arrays["x"], arrays["y"]], axis=1) / 65535 * span + points.xy.min(axis=0)
    np.testing.assert_allclose(xy, points.xy, atol=span.max() / 65535)
    assert names["ids"] == points.ids
    assert names["texts"] == [clean(text) for text in points.texts]


def test_texts_are_packed_as_they_are_but_for_control_characters():
    texts = names_of(pack(example_points(), None))["texts"]
    assert texts[0] == HOSTILE[0]
    assert texts[4] == HOSTILE[4]
    assert texts[6].startswith("\\u001b[31mred")


@pytest.mark.parametrize("n_rows", [0, 1])
def test_few_rows(n_rows):
    blocks = pack(example_points(n_rows), None)
    assert arrays_of(blocks)["x"].tolist() == [0] * n_rows
    assert len(names_of(blocks)["ids"]) == n_rows


def test_rows_on_a_line_or_in_one_place():
    points = example_points()
    flat = dataclasses.replace(points, xy=points.xy * np.float32([1, 0]))
    assert names_of(pack(flat, None))["spans"] == [1, 0]
    still = dataclasses.replace(points, xy=np.zeros_like(points.xy))
    assert names_of(pack(still, None))["spans"] == [0, 0]


def test_lone_surrogates_do_no_harm():
    points = example_points(2)
    points.texts[0], points.ids[0] = "a \ud83d b", "\ud83d"
    names = names_of(pack(points, None))
    assert names["texts"][0] == "a \\ud83d b"
    assert names["ids"][0] == "?"


def test_drawn_rows_keep_together_and_in_order():
    points = example_points()
    some = some_of(points, 40)
    assert (np.diff(some.rows) > 0).all()
    assert len(some.rows) == len(some.ids) == len(some.texts) == 40
    assert some.ids == [points.ids[row] for row in some.rows]
    np.testing.assert_array_equal(some.xy, points.xy[some.rows])
    np.testing.assert_array_equal(some_of(points, 40).rows, some.rows)


def test_all_that_fits_is_kept():
    points = example_points()
    blocks, left_out = fitted(points, 10**7)
    assert blocks == pack(points, None)
    assert left_out == []


def test_less_is_kept_the_less_room_there_is():
    points = example_points(4000)
    points.texts[:] = [f"{n**40} " * 8 for n in range(4000)]
    kept = []
    for room in (10**7, 400_000, 200_000, 100_000, 50_000, 20_000):
        blocks, left_out = fitted(points, room)
        assert blocks.n_bytes <= room
        longest = max(map(len, names_of(blocks)["texts"]))
        kept.append((blocks.rows, longest))
        assert len(left_out) == (longest < 500) + (blocks.rows < 4000)
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)
    assert fitted(points, 500) == (
        None,
        ["The map of 4,000 rows does not fit into this file."],
    )
