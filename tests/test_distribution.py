"""The wheel and the source distribution: what is in them, same bytes again, and that they run."""

import configparser
import csv
import fnmatch
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "pipeline")


def files_of_packages():
    """All that is in the packages, but for what Python leaves there."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)


@pytest.mark.parametrize(
    "path", [path for path in files_of_packages() if path.suffix != ".py"], ids=str
)
def test_what_is_no_module_is_declared_or_an_installed_package_lacks_it(path):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"][path.parts[0]].replace(",", " ").split()
    inside = Path(*path.parts[1:]).as_posix()
    assert any(fnmatch.fnmatchcase(inside, pattern) for pattern in patterns)


def named_extras():
    """The extras that errors and pages tell people to install."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    for path in [*pages, *modules]:
        for listed in re.findall(r"(?:frostline|\.)\[([a-z0-9,]+)\]['`]", path.read_text("utf-8")):
            yield from listed.split(",")


def test_extras_that_are_named_are_there():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {"minilm", "serve"} <= set(named_extras()) <= set(setup["options.extras_require"])


def dist(folder, umask):
    """Build both by `make dist`'s script; gives the source distribution and the wheel."""
    subprocess.run(
        [sys.executable, ROOT / ".ci" / "dist.py", folder], check=True, umask=umask, cwd="/"
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if not (ROOT / ".git").exists() or find_spec("build") is None:
        pytest.skip("a commit is built, with the package build")
    return dist(tmp_path_factory.mktemp("dist"), 0o022)


def committed():
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return set(listed.stdout.splitlines())


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in committed() if name.startswith(("features/", "pipeline/"))
    }
    assert {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    }


@pytest.mark.slow
def test_the_source_distribution_holds_the_commit(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    # The examples are a link in the repository, and files here.
    assert committed() - names - {"examples", ".gitignore"} == set()
    assert {"examples/tweets.csv", "PKG-INFO"} <= names


@pytest.mark.slow
def test_whoever_builds_a_commit_gets_the_same_bytes(built, tmp_path):
    for first, second in zip(built, dist(tmp_path / "again", 0o077), strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_it_runs_in_an_environment_of_its_own(built, tmp_path):
    """Only what it depends on is borrowed, so that nothing is fetched."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([python, *install, built[1]], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "empty").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    inside = {"cwd": tmp_path / "empty", "env": environment, "text": True, "capture_output": True}
    where = subprocess.run([python, "-c", "import pipeline; print(pipeline.__file__)"], **inside)
    assert Path(where.stdout.strip()).is_relative_to(site), where
    done = subprocess.run([python.with_name("frostline"), "demo", "--report"], **inside)
    assert done.returncode == 0, done.stderr
    demo = tmp_path / "empty" / "demo"
    with (demo / "scored.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 60
    assert (demo / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    for path in (ROOT / "pipeline" / "examples").glob("*.csv"):
        assert (demo / path.name).read_bytes() == path.read_bytes()
