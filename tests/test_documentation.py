"""The examples in docstrings and in the README run, in a folder that holds examples/."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("features", "pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in ("__init__", "__main__") and ">>>" in path.read_text(encoding="utf-8")
]
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PUBLIC = [
    ("features", "FrozenEncoder"),
    ("features", "FeatureStore"),
    ("features", "extract"),
    ("features", "verify"),
    ("features", "FrozenBert"),
    ("pipeline", "fit"),
    ("pipeline", "compare"),
    ("pipeline", "load_head"),
    ("pipeline", "MultinomialLogisticRegression"),
]


@pytest.fixture
def beside_examples(tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, beside_examples):
    result = doctest.testmod(importlib.import_module(name), verbose=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_what_is_public_has_an_example(package, name):
    assert ">>>" in getattr(importlib.import_module(package), name).__doc__


def test_python_in_the_readme(beside_examples):
    """The block that makes tweets.h5 comes behind the one that reads it, so it runs first."""
    assert len(PYTHON_BLOCKS) == 4
    reading, library, in_sklearn, classifier = PYTHON_BLOCKS
    for block in (library, in_sklearn, classifier, reading.replace("mean@last4+sum", "mean")):
        exec(compile(block, "README.md", "exec"), {})
