"""What is imported when, and by whom."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from stores import OTHER_SPEC, blobs, make_head, write_store

from pipeline.head import save_head

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers")
REPORT = "import json, sys; print(json.dumps([m for m in {names!r} if m in sys.modules]))"
COMMAND = """
import sys
sys.argv[0] = "frostline"
from pipeline.cli import main
try:
    main(prog_name="frostline")
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


def loaded(code, *arguments, names=HEAVY):
    """Which of these modules a fresh process has after running the code."""
    result = subprocess.run(
        [sys.executable, "-c", code + "\n" + REPORT.format(names=names), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_store(folder / "s.h5", *blobs(60, 8, 3), labels=["class 0", "class 1", "class 2"])
    write_store(
        folder / "o.h5",
        *blobs(60, 8, 3),
        labels=["class 0", "class 1", "class 2"],
        spec=OTHER_SPEC,
    )
    save_head(make_head(3), folder / "head.joblib")
    return folder


@pytest.mark.parametrize(
    "module",
    [
        "features",
        "pipeline",
        "features.store",
        "features.encoder",
        "features.exported",
        "pipeline.cli",
    ],
)
def test_importing_is_light(module):
    assert loaded(f"import {module}") == []


COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "help of fit": ["fit", "--help"],
    "help of extract": ["extract", "--help"],
    "help of predict": ["predict", "--help"],
    "fit": ["fit", "s.h5", "-o", "new.joblib"],
    "fit two encoders": ["fit", "s.h5", "o.h5", "-o", "new.joblib"],
    "compare": ["compare", "s.h5"],
    "evaluate": ["evaluate", "head.joblib", "s.h5"],
    "predict vectors": ["predict", "head.joblib", "s.h5", "-o", "out.csv"],
    "verify": ["verify", "s.h5", "o.h5"],
    "inspect a store": ["inspect", "s.h5"],
    "inspect a head": ["inspect", "head.joblib"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_vectors_never_load_a_model_library(command, files):
    arguments = [str(files / a) if "." in a else a for a in COMMANDS[command]]
    assert loaded(COMMAND, *arguments) == []


@pytest.mark.parametrize(
    "command", ["help", "version", "inspect a head", "predict vectors", "verify"]
)
def test_what_needs_no_solver_does_without_sklearn(command, files):
    arguments = [str(files / a) if "." in a else a for a in COMMANDS[command]]
    assert loaded(COMMAND, *arguments, names=["sklearn", "joblib"]) == []


def test_the_probe_sees_what_is_loaded():
    assert loaded("import sklearn", names=["sklearn", "torch"]) == ["sklearn"]


def imports(path):
    """Names of all modules that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{module}.{name.name}" for name in node.names)


def sources(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def is_or_is_in(name, module):
    return name == module or name.startswith(module + ".")


@pytest.mark.parametrize("path", sources("features"), ids=lambda path: path.name)
def test_features_never_import_the_pipeline(path):
    assert [name for name in imports(path) if is_or_is_in(name, "pipeline")] == []


@pytest.mark.parametrize(
    "path", [*sources("features"), *sources("pipeline")], ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_only_main_imports_the_command_line(path):
    found = [name for name in imports(path) if is_or_is_in(name, "pipeline.cli")]
    assert bool(found) == (path.name == "__main__.py"), found


# Who is free of what, whatever else is loaded: by the design's table of rooms.
FREE_OF = {
    "features/layout.py": ["torch", "transformers", "features.quarantine"],
    "features/writing.py": ["torch", "transformers", "features.store"],
    "features/tokenizer.py": ["torch", "h5py"],
    "features/choice.py": ["torch", "transformers", "numpy", "h5py", "features"],
    "features/cache.py": ["torch", "transformers", "numpy", "h5py"],
    "features/machine.py": ["torch", "transformers", "numpy", "h5py"],
    "features/exports.py": ["torch", "transformers", "h5py"],
    "features/exported.py": ["torch", "transformers", "h5py", "features.model"],
    "features/openvino_runtime.py": ["torch", "transformers", "h5py", "features.model"],
    "features/streams.py": ["torch", "transformers", "h5py"],
    "features/pooling.py": ["torch", "transformers", "h5py"],
    "features/engine.py": ["torch", "transformers", "h5py", "features.model"],
    "features/encoder.py": ["torch", "transformers", "h5py", "features.model"],
    "features/products.py": ["transformers", "numpy", "h5py"],
    "features/trial.py": ["transformers", "h5py", "features.cache", "features.model"],
    "features/store.py": ["torch", "transformers", "features.writing"],
    "features/journal.py": ["torch", "transformers", "h5py"],
    "features/building.py": ["torch", "transformers"],
    "features/parquet.py": ["torch", "transformers", "numpy", "h5py", "features.store"],
    "features/gaps.py": ["torch", "transformers", "h5py", "features.store"],
    "features/seal.py": ["torch", "transformers", "numpy", "h5py"],
    "features/contents.py": ["torch", "transformers", "h5py"],
    "features/verify.py": ["torch", "transformers", "h5py"],
    "features/disk.py": ["features", "numpy", "h5py"],
    "features/tweets.py": ["torch", "transformers", "numpy", "h5py"],
    "features/normalize.py": ["torch", "transformers", "numpy"],
    "features/spec.py": ["torch", "transformers"],
    "pipeline/solver.py": ["h5py", "torch", "features"],
    "pipeline/objective.py": ["h5py", "torch", "features", "sklearn"],
    "pipeline/descent.py": ["h5py", "torch", "features", "sklearn"],
    "pipeline/blocks.py": ["h5py", "torch", "sklearn", "features.store"],
    "pipeline/estimator.py": ["h5py", "torch", "features"],
    "pipeline/metrics.py": ["sklearn", "features", "h5py"],
    "pipeline/join.py": ["sklearn", "torch", "h5py"],
    "pipeline/matching.py": ["sklearn", "torch", "h5py", "pipeline"],
    "pipeline/calibration.py": ["sklearn", "scipy", "features", "h5py"],
    "pipeline/priors.py": ["sklearn", "h5py", "pipeline"],
    "pipeline/bootstrap.py": ["sklearn", "features", "h5py"],
    "pipeline/compare.py": ["torch", "h5py"],
    "pipeline/unpickle.py": ["pickle", "joblib", "sklearn", "importlib"],
    "pipeline/verdict.py": ["sklearn", "torch", "h5py", "numpy"],
    "pipeline/report.py": ["sklearn", "torch", "h5py"],
}


@pytest.mark.parametrize("path", FREE_OF)
def test_rooms_stay_free_of_what_is_not_theirs(path):
    names = list(imports(ROOT / path))
    assert [n for n in names for module in FREE_OF[path] if is_or_is_in(n, module)] == []
