"""Figures as JSON: they come back as they were, and others are refused by name."""

import dataclasses
import json

import pytest
from measured import A_GPU

from features.errors import FileRefused, InputError
from pipeline.plan.figures import read_figures


def test_figures_come_back(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"rows": 5, "figures": A_GPU.to_dict()}))
    assert read_figures(path) == A_GPU
    unknown = dataclasses.replace(A_GPU, input_rows=None)
    path.write_text(json.dumps({"figures": unknown.to_dict()}))
    assert read_figures(path) == unknown


def test_no_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no\.json cannot be read: No such file"):
        read_figures(tmp_path / "no.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_figures(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "has no `figures`"),
        (b'{"figures": 3}', "has no `figures`"),
        (b'"' + b"x" * 2**20 + b'"', "has no `figures`"),
    ],
)
def test_what_is_no_plan_is_refused(content, said, tmp_path):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(
        FileRefused, match=f"{said}.*what `frostline plan` writes to its `json_file`"
    ):
        read_figures(path)


@pytest.mark.parametrize("missing", [["flops"], ["rows_searched", "why_whole"]])
def test_figures_of_another_version_are_refused(missing, tmp_path):
    path = tmp_path / "plan.json"
    figures = {name: value for name, value in A_GPU.to_dict().items() if name not in missing}
    path.write_text(json.dumps({"figures": figures}))
    names = ", ".join(map(json.dumps, missing))
    said = f"its figures have no {names}: another version of frostline measured"
    with pytest.raises(FileRefused, match=said):
        read_figures(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 0),
        ("rows", 1.5),
        ("rows", True),
        ("tokens", 0),
        ("tokens", "many"),
        ("tokens_encoded", -1.0),
        ("bytes_written", float("inf")),
        ("flops", float("nan")),
        ("load_seconds", -0.1),
        ("labelled", -1),
        ("store_dtype", "float8"),
        ("views", {}),
        ("views", {"mean": 0}),
        ("views", {"mean": 384.0}),
        ("views", []),
        ("device", None),
        ("input_rows", 0),
        ("rows_searched", 0.0),
        ("why_whole", None),
        ("rows_read", 5e-324),
        ("tokens", 1e300),
        ("rows", 10**400),
    ],
)
def test_a_figure_that_can_not_be_is_refused(name, value, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"figures": A_GPU.to_dict() | {name: value}}))
    with pytest.raises(FileRefused, match=f"plan.json: {name} is "):
        read_figures(path)


@pytest.mark.parametrize("name", ["labelled", "distinct", "classes"])
def test_no_more_of_a_kind_than_rows(name, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"figures": A_GPU.to_dict() | {name: A_GPU.rows + 1}}))
    with pytest.raises(FileRefused, match="more labels, classes or distinct texts than rows"):
        read_figures(path)
