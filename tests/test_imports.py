"""What is imported when, and by whom."""

import ast
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from measured import A_GPU
from stores import OTHER_SPEC, blobs, make_head, write_store

from pipeline.head.head import save_head

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "ray")
OF_SOLVER = ("sklearn", "joblib", "rich")
OF_PAGES = ("jinja2", "matplotlib", "pipeline.page")
REPORT = "import json, sys; print(json.dumps([m for m in {names!r} if m in sys.modules]))"
COMMAND = """
import sys
sys.argv[0] = "frostline"
from pipeline.cli.commands import main
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
    X, _ = blobs(60, 8, 3)
    write_store(folder / "pool.h5", X, [-1] * 60)
    save_head(make_head(3), folder / "head.joblib")
    (folder / "plan.json").write_text(json.dumps({"figures": A_GPU.to_dict()}))
    return folder


@pytest.mark.parametrize(
    "module",
    [
        "features",
        "pipeline",
        "features.store.reader",
        "features.encoder.encoder",
        "features.backends.registry",
        "features.backends.exported.runtime",
        "pipeline.cli.commands",
        "pipeline.serve.server",
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
    "label-next": ["label-next", "head.joblib", "pool.h5", "-o", "next.csv"],
    "suspects": ["suspects", "head.joblib", "s.h5", "-o", "suspects.csv"],
    "report": ["report", "head.joblib", "s.h5", "-o", "r.html", "-o", "r.json", "-o", "r.md"],
    "verify": ["verify", "s.h5", "o.h5"],
    "plan": ["plan", "--measured", "plan.json", "--rows", "10e9"],
    "help of plan": ["plan", "--help"],
    "inspect a store": ["inspect", "s.h5"],
    "inspect a head": ["inspect", "head.joblib"],
}


@pytest.fixture(scope="module")
def loaded_by(files):
    """A function that gives what a command loads of all these; each command runs once."""

    @cache
    def modules(command):
        arguments = [str(files / a) if "." in a else a for a in COMMANDS[command]]
        return set(loaded(COMMAND, *arguments, names=[*HEAVY, *OF_SOLVER, *OF_PAGES]))

    return modules


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_vectors_never_load_a_model_library(command, loaded_by):
    assert loaded_by(command).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "command", ["help", "version", "inspect a head", "predict vectors", "verify"]
)
def test_what_needs_no_solver_does_without_sklearn(command, loaded_by):
    assert loaded_by(command).isdisjoint(OF_SOLVER)


@pytest.mark.parametrize("command", ["fit", "evaluate", "help of fit"])
def test_what_draws_no_page_loads_none_of_its_libraries(command, loaded_by):
    assert loaded_by(command).isdisjoint(OF_PAGES)


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


# Which packages each one imports, of ours, besides `features.errors` and `features.version`, in an
# order in which every arrow points upwards. A new package gets a line, a new arrow a reason.
ARROWS = {
    "features.base": [],
    "features.engines": ["features.base"],
    "features.spec": [],
    "features.tweets": ["features.base"],
    "features.store": ["features.base", "features.spec"],
    "features.backends": ["features.base", "features.spec"],
    "features.encoder": ["features.backends", "features.base", "features.spec"],
    "features.extraction": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.spec",
        "features.store",
        "features.tweets",
    ],
    "features.pieces": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.extraction",
        "features.spec",
        "features.store",
        "features.tweets",
    ],
    "features.fleet": [
        "features.base",
        "features.engines",
        "features.extraction",
        "features.pieces",
        "features.store",
    ],
    "features.extract": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.engines",
        "features.extraction",
        "features.fleet",
        "features.pieces",
        "features.spec",
        "features.store",
        "features.tweets",
    ],
    "features": [
        "features.encoder",
        "features.extract",
        "features.extraction",
        "features.pieces",
        "features.store",
    ],
    "pipeline.solver": ["features.base", "features.engines"],
    "pipeline.hub": ["features.base", "features.spec"],
    "pipeline.head": [
        "features.base",
        "features.spec",
        "features.store",
        "pipeline.hub",  # `hf:owner/name` is where a head may lie, and its card is a file of it
        "pipeline.solver",
    ],
    "pipeline.data": [
        "features.base",
        "features.engines",
        "features.spec",
        "features.store",
        "features.tweets",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.evaluation": ["features.base", "pipeline.head", "pipeline.solver"],
    "pipeline.compare": [
        "features.base",
        "features.engines",
        "features.spec",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.labelling": [
        "features.base",
        "features.tweets",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.fitting": [
        "features.base",
        "features.spec",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.fit": [
        "features.base",
        "features.engines",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.fitting",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.scoring": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.engines",
        "features.spec",
        "features.store",
        "features.tweets",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.head",
        "pipeline.solver",
    ],
    "pipeline.facts": [
        "features.base",
        "features.store",
        "features.tweets",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.fitting",
        "pipeline.head",
        "pipeline.labelling",
        "pipeline.scoring",
        "pipeline.solver",
    ],
    "pipeline.page": ["pipeline.facts"],
    "pipeline.explaining": [
        "features.base",
        "features.encoder",
        "features.spec",
        "features.tweets",
        "pipeline.data",
        "pipeline.evaluation",
        "pipeline.head",
        "pipeline.labelling",
        "pipeline.page",
        "pipeline.scoring",
        "pipeline.solver",
    ],
    "pipeline.doctor": ["features.backends", "features.base", "features.encoder", "features.spec"],
    "pipeline.plan": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.extraction",
        "features.pieces",
        "features.spec",
        "features.store",
        "features.tweets",
        "pipeline.evaluation",
        "pipeline.solver",
    ],
    "pipeline.export": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.spec",
        "pipeline.head",
        "pipeline.scoring",
    ],
    "pipeline.plots": [
        "features.base",
        "features.spec",
        "pipeline.compare",
        "pipeline.evaluation",
        "pipeline.scoring",
    ],
    "pipeline.report": [
        "features",
        "features.backends",
        "features.base",
        "features.extraction",
        "features.pieces",
        "features.spec",
        "features.store",
        "pipeline.compare",
        "pipeline.data",
        "pipeline.doctor",
        "pipeline.evaluation",
        "pipeline.explaining",
        "pipeline.fit",
        "pipeline.fitting",
        "pipeline.head",
        "pipeline.labelling",
        "pipeline.plan",
        "pipeline.scoring",
    ],
    "pipeline.terminal": [
        "features.backends",
        "features.extraction",
        "features.spec",
        "features.store",
        "features.tweets",
        "pipeline.report",
    ],
    "pipeline.serve": [
        "features.backends",
        "features.base",
        "features.encoder",
        "features.spec",
        "pipeline.explaining",
        "pipeline.head",
        "pipeline.page",
        "pipeline.solver",
    ],
    "pipeline": [
        "pipeline.compare",
        "pipeline.evaluation",
        "pipeline.fit",
        "pipeline.head",
        "pipeline.scoring",
        "pipeline.solver",
    ],
    "pipeline.cli": [
        "features.backends",
        "features.base",
        "features.engines",
        "features.extract",
        "features.extraction",
        "features.pieces",
        "features.spec",
        "features.store",
        "features.tweets",
        "pipeline.compare",
        "pipeline.data",
        "pipeline.doctor",
        "pipeline.evaluation",
        "pipeline.explaining",
        "pipeline.export",
        "pipeline.facts",
        "pipeline.fit",
        "pipeline.fitting",
        "pipeline.head",
        "pipeline.hub",
        "pipeline.labelling",
        "pipeline.page",
        "pipeline.plan",
        "pipeline.plots",
        "pipeline.report",
        "pipeline.scoring",
        "pipeline.serve",
        "pipeline.terminal",
    ],
    "pipeline.__main__": ["pipeline.cli"],
}
EVERYONES = ("features.errors", "features.version")


def package_of(module):
    """The package of ours that a module, or a name in one, belongs to: the longest in the table."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in ARROWS or name in EVERYONES), None)


def test_arrows_between_packages_point_one_way():
    found = {package: set() for package in ARROWS}
    for path in [*sources("features"), *sources("pipeline")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = package_of(".".join(part for part in parts if part != "__init__"))
        found.setdefault(package, set()).update(map(package_of, imports(path)))
    arrows = {package: sorted(to - {package, None, *EVERYONES}) for package, to in found.items()}
    del arrows["features.errors"], arrows["features.version"]
    for package, to in arrows.items():
        print(package, "->", ", ".join(to) or "nothing")
    assert arrows == ARROWS
    order = list(ARROWS)
    assert all(order.index(to) < order.index(one) for one in ARROWS for to in ARROWS[one])


# What a package, or one module in it, never imports, at any depth.
NEVER = {
    "features/base": ["torch", "transformers", "h5py", "sklearn"],
    "features/engines": ["torch", "transformers", "h5py", "sklearn"],
    "features/spec": ["torch", "h5py", "sklearn"],
    "features/tweets": ["torch", "transformers", "numpy", "h5py", "sklearn"],
    "features/store": ["torch", "transformers", "sklearn"],
    "features/backends": ["h5py", "sklearn"],
    "features/backends/exported": ["h5py", "sklearn"],
    "features/backends/exported/runtime.py": ["torch", "transformers"],
    "features/backends/choice.py": ["torch", "transformers", "numpy"],
    "features/backends/registry.py": ["transformers", "openvino", "onnxruntime"],
    "features/encoder": ["h5py", "transformers"],
    "features/encoder/encoder.py": ["torch"],
    "features/encoder/engine.py": ["torch"],
    "features/extraction": ["torch", "transformers", "h5py", "sklearn"],
    "features/pieces": ["torch", "transformers", "h5py", "sklearn"],
    "pipeline/solver": ["torch", "h5py", "joblib"],
    "pipeline/hub": ["torch", "transformers", "numpy", "h5py", "sklearn"],
    "pipeline/head": ["torch", "h5py", "scipy", "huggingface_hub"],
    "pipeline/head/safe_pickle.py": ["pickle", "joblib", "sklearn", "importlib"],
    "pipeline/data": ["torch", "h5py", "sklearn"],
    "pipeline/evaluation": ["torch", "h5py"],
    "pipeline/fitting": ["torch", "h5py", "sklearn"],
    "pipeline/labelling": ["torch", "h5py", "sklearn"],
    "pipeline/scoring": ["torch", "transformers", "h5py", "sklearn"],
    "pipeline/explaining": ["torch", "transformers", "h5py", "sklearn"],
    "pipeline/plots": ["torch", "numpy", "h5py", "sklearn", "matplotlib"],
    "pipeline/facts": ["torch", "transformers", "h5py", "sklearn"],
    "pipeline/page": ["torch", "h5py", "sklearn", "scipy"],
    "pipeline/report": ["torch", "h5py", "sklearn"],
    "pipeline/serve": ["torch", "transformers", "h5py", "sklearn"],
    "pipeline/cli": ["torch", "transformers", "h5py", "sklearn"],
}


@pytest.mark.parametrize("where", NEVER)
def test_what_a_package_never_imports(where):
    path = ROOT / where
    files = [path] if path.suffix else sources(where)
    found = [(file.name, name) for file in files for name in imports(file)]
    assert [(f, n) for f, n in found for module in NEVER[where] if is_or_is_in(n, module)] == []


def test_folders_hold_about_a_dozen_modules():
    folders = {path.parent for path in [*sources("features"), *sources("pipeline")]}
    assert {str(f): n for f in folders if (n := len(list(f.glob("[!_]*.py")))) > 13} == {}


def test_modules_of_tests_have_names_of_their_own():
    """Two of one name in different folders stop pytest before the first test."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, n in names.items() if n > 1] == []


# What people call: parameters are all that can be asked for. Commands have theirs from options.
PUBLIC_FACES = {
    "features/encoder/encoder.py FrozenEncoder.__init__",
    "features/encoder/transformer.py FrozenBert.__init__",
    "features/extract.py extract",
    "pipeline/compare.py compare",
    "pipeline/fit.py fit",
    "pipeline/head/head.py Head.push_to_hub",
    "pipeline/labelling/suspects.py suspects",
    "pipeline/scoring/frames.py predict",
    "pipeline/solver/estimator.py MultinomialLogisticRegression.__init__",
}
MOST_LINES, MOST_PARAMETERS = 60, 8


def functions(node, inside=""):
    """Name all functions in a tree, those in classes and functions too."""
    for child in ast.iter_child_nodes(node):
        name = inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{inside}.{child.name}" if inside else child.name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from functions(child, name)


def lines_of_body(function):
    """Count the lines of a function below its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def parameters(function):
    """Name what a caller can give."""
    found = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one.arg for one in found if one.arg not in ("self", "cls")]


def is_command(function):
    """Say whether the command line calls it, whose options are its parameters."""
    return any(ast.unparse(one).startswith("main.command(") for one in function.decorator_list)


def in_file(path, is_too_much):
    """Name the functions of a file that something is true of."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [name for name, function in functions(tree) if is_too_much(function)]


def in_packages(is_too_much):
    """Name the functions of ours that something is true of, behind their files."""
    return {
        f"{path.relative_to(ROOT).as_posix()} {name}"
        for path in [*sources("features"), *sources("pipeline")]
        for name in in_file(path, is_too_much)
    }


def is_long(function):
    return lines_of_body(function) > MOST_LINES


def takes_too_many(function):
    return len(parameters(function)) > MOST_PARAMETERS and not is_command(function)


def test_functions_fit_on_a_screen():
    assert in_packages(is_long) == set()


def test_functions_take_few_parameters():
    assert in_packages(takes_too_many) - PUBLIC_FACES == set()


def test_the_counts_of_lines_and_parameters(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "def short(a, b, c, d, e, f, g, h):\n"
        + "    a\n" * 60
        + 'class A:\n    def long(self):\n        "A docstring."\n'
        + "        a\n" * 61
        + "    def wide(self, a, b, c, d, *, e, f, g, h, i): ...\n"
        + "def outer():\n    async def wide(a, b, c, d, e, f, g, h, i, /): ...\n"
        + "@main.command()\ndef command(a, b, c, d, e, f, g, h, i): ...\n"
    )
    assert in_file(file, is_long) == ["A.long"]
    assert in_file(file, takes_too_many) == ["A.wide", "outer.wide"]
