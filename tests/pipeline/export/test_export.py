"""Folders of exports: what is refused, and that nothing is left where it is."""

import resource
from dataclasses import replace

import pytest
from architectures import N_LAYERS, WIDTH
from click.testing import CliRunner
from exports import head_on
from stores import make_head

from features.errors import CannotContinue, InputError
from pipeline.cli.commands import main
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.head.head import save_head


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


@pytest.mark.parametrize("name", [name for name, row in FORMATS.items() if row.packages])
def test_a_package_that_is_not_installed_is_named_with_its_extra(name, tmp_path, monkeypatch):
    missing = FORMATS[name].packages[0]
    monkeypatch.setattr(
        "pipeline.export.formats.find_spec", lambda package: None if package == missing else True
    )
    with pytest.raises(InputError, match=rf"needs the package {missing}: pip install 'frostline\["):
        export(make_head(3), tmp_path / "new", name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(name, tiny_model, tmp_path):
    """At the first file, or in the midst of the weights, which other libraries write."""
    head = head_on(tiny_model("bert"), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    whole = tmp_path / "whole"
    export(head, whole, name)
    largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (100, largest // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(CannotContinue, match="File too large"):
                export(head, tmp_path / "new", name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == [whole]


def test_the_command_names_what_it_wrote_and_how_close_it_is(tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    save_head(head, tmp_path / "head.joblib")
    arguments = ["export", str(tmp_path / "head.joblib"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    files = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert all(str(path) in result.stdout.replace("\n", "") for path in files)
    assert "of the head's own on 10 texts" in result.stderr


@pytest.mark.parametrize("prior", ["estimate", "a=1", "uniform,"])
def test_a_prior_that_says_no_shares_is_refused(prior, tmp_path):
    moved = {"prior": [1 / 3] * 3, "class_rows": [5] * 3}
    head = replace(make_head(3), metadata=moved)
    save_head(head, tmp_path / "head.joblib")
    arguments = ["export", str(tmp_path / "head.joblib"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--prior", prior])
    assert result.exit_code == 2
    assert "prior" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "safetensors"])
def test_more_models_than_encoders_are_refused(name, tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    with pytest.raises(InputError, match="has 1 encoders, `models` names 2"):
        export(head, tmp_path / "out", name, models=[tiny_model("bert"), tiny_model("roberta")])
