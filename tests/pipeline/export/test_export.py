"""Folders of exports: what is refused, and that nothing is left where it is."""

import pytest
from stores import make_head

from features.errors import InputError
from pipeline.export.export import export
from pipeline.export.formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_there_is_not_written_over(name, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export(make_head(3), there, name)
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "mine.txt"]


def test_an_unknown_format_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(InputError, match=r"'tflite': choose one of .*onnx"):
        export(make_head(3), tmp_path / "new", "tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_head_whose_model_is_not_here_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="the head's model is not here"):
        export(make_head(3), tmp_path / "new", "onnx")
    assert list(tmp_path.iterdir()) == []
