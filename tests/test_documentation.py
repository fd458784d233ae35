"""What is said of the code is true: examples of docstrings run, paths exist, maps are whole."""

import doctest
import importlib
import re
import shutil
from pathlib import Path

import pytest
from pages import LINKED as PAGES
from pages import ROOT
from test_imports import ARROWS

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("features", "pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in ("__init__", "__main__") and ">>>" in path.read_text(encoding="utf-8")
]
PUBLIC = [
    ("features", "FrozenEncoder"),
    ("features", "FeatureStore"),
    ("features", "extract"),
    ("features", "verify"),
    ("features", "FrozenBert"),
    ("pipeline", "fit"),
    ("pipeline", "compare"),
    ("pipeline", "load_head"),
    ("pipeline", "predict"),
    ("pipeline", "MultinomialLogisticRegression"),
]
MAPS = ("CONTRIBUTING.md", "docs/architecture.md")


@pytest.fixture(scope="module")
def made():
    """Feature files, by what was asked of `extract` beside its files."""
    return {}


@pytest.fixture
def beside_examples(name, made, tmp_path, monkeypatch):
    """A folder with the example tweets, and their vectors where an earlier one has made the same.

    So the commands find every text, and encode none; that takes seconds for each module.
    """
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    source = Path(importlib.import_module(name).__file__).read_text(encoding="utf-8")
    asked = re.search(r'>>> .*\bextract\(.*"tweets\.h5"(.*)\)$', source, re.MULTILINE)
    if asked and asked[1] in made:
        shutil.copy(made[asked[1]], tmp_path)
    yield
    if asked:
        made.setdefault(asked[1], tmp_path / "tweets.h5")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, beside_examples):
    result = doctest.testmod(importlib.import_module(name), verbose=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_what_is_public_has_an_example(package, name):
    assert ">>>" in getattr(importlib.import_module(package), name).__doc__


def named_paths():
    """What is in backticks and is a path: with a slash or a text file's ending, and no blanks."""
    for page in MAPS:
        text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
        for name in sorted(set(re.findall(r"`([^`\s]+)`", text))):
            path = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", name)
            if path and (
                "/" in name or Path(name).suffix in (".py", ".md", ".cfg", ".yaml", ".txt")
            ):
                yield page, name


# Names that look so, and are not paths from the top of the project.
NO_PATHS = {"tweeteval/1", "__init__.py"}


@pytest.mark.parametrize(("page", "name"), [one for one in named_paths() if one[1] not in NO_PATHS])
def test_a_path_that_is_named_exists(page, name):
    path = ROOT / name
    assert path.is_dir() if name.endswith("/") else path.exists()


def packages():
    for top in ("features", "pipeline"):
        for path in sorted((ROOT / top).rglob("__init__.py")):
            yield path.parent.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", MAPS)
@pytest.mark.parametrize("package", list(packages()))
def test_every_package_is_in_the_maps(page, package):
    assert re.search(rf"`{package}/?`", PAGES[page]), f"{page} does not say what {package} is"


def test_the_arrows_of_the_map_are_those_of_the_code():
    """The table in docs/architecture.md, line by line, is `ARROWS` in tests/test_imports.py."""

    def modules(cell):
        return [name.removesuffix(".py").replace("/", ".") for name in re.findall(r"`(.+?)`", cell)]

    _, _, section = PAGES["docs/architecture.md"].partition("\n## The packages\n")
    rows = re.findall(r"^\| (`\w.*?`) \| .* \| (.*) \|$", section.partition("\n## ")[0], re.M)
    shown = {modules(package)[0]: modules(to) for package, to in rows}
    assert shown == ARROWS
    assert list(shown) == list(ARROWS)


def test_the_hooks_run_what_ci_runs():
    """The commands of `make lint types docs test`, which .ci/run runs, in the same order."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make (.*)$", ci, re.MULTILINE)[1] == "lint types docs test"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = []
    for target in ("lint", "types", "docs", "test"):
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
        wanted += [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE) == wanted
