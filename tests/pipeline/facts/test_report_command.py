"""The figures of a report are those of `evaluate`; no text leaks, no file is lost."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from report_examples import HOSTILE
from stores import LABELS, OTHER_SPEC, blobs, write_store

from pipeline.cli.commands import main
from pipeline.fit import fit
from pipeline.head.head import save_head

N = 400


def texts_of(rows, seed):
    """Texts of rows, hostile ones first."""
    return [HOSTILE[i] if i < len(HOSTILE) else f"Tweet <{seed}-{i}> secret" for i in range(rows)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A head, its own rows, and others, a few of them without a label."""
    folder = tmp_path_factory.mktemp("report")
    for name, seed in (("own", 1), ("other", 2)):
        X, y = blobs(N, 8, 3, seed=seed)
        if name == "other":
            y[-20:] = -1
        texts = texts_of(N, seed)
        write_store(folder / f"{name}.h5", X, y, texts=texts)
        lines = [{"id": f"row-{i}", "text": text} for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    save_head(fit(folder / "own.h5", C=0.01, cv=5).head, folder / "head.joblib")
    X, y = blobs(60, 8, 3)
    write_store(folder / "foreign.h5", X, y, spec=OTHER_SPEC)
    write_store(folder / "unlabelled.h5", X, [-1] * 60)
    (folder / "short.jsonl").write_text('{"id": "row-0", "text": "a"}\n')
    return folder


def run(*arguments, codes=(0,)):
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code in codes, result.output
    return result


def report_of(folder, *arguments):
    run("report", folder / "head.joblib", *arguments, "-o", folder / "r.json")
    return json.loads((folder / "r.json").read_text())


def test_metrics_are_those_of_evaluate(folder):
    said = report_of(folder, folder / "other.h5")
    run("evaluate", folder / "head.joblib", folder / "other.h5", "--json", folder / "e.json")
    expected = json.loads((folder / "e.json").read_text())["metrics"]
    measured_on = said["metrics"].pop("measured_on")
    assert said["metrics"] == expected
    assert str(folder / "other.h5") in measured_on
    assert said["confusion"]["counts"] == expected["confusion"]
    assert said["data"]["rows"] == N
    assert said["data"]["labelled"] == expected["rows"] == N - 20
    assert said["learning_curve"] is None
    assert any("Learning curve" in line for line in said["left_out"])


HEADS = {
    "other prior": ["--prior", "negative=0.1,neutral=0.2,positive=0.7"],
    "no class weights": ["--class-weight", "none"],
    "biases": ["--cv", 5, "--calibrate", "bias-corrected"],
    "no calibration": ["--calibrate", "none"],
}


@pytest.mark.parametrize("kind", HEADS)
def test_metrics_are_those_of_evaluate_for_any_head(folder, kind, tmp_path):
    head = tmp_path / "head.joblib"
    run("fit", folder / "own.h5", "--C", 0.01, "-o", head, *HEADS[kind])
    run("report", head, folder / "other.h5", "-o", tmp_path / "r.json")
    run("evaluate", head, folder / "other.h5", "--json", tmp_path / "e.json")
    said, expected = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "re")
    del said["metrics"]["measured_on"]
    assert said["metrics"] == expected["metrics"]
    assert said["head"]["prior"] == expected["prior"]
    assert (said["reliability"]["before"] is None) == (kind != "biases")


def test_metrics_are_those_of_evaluate_for_two_encoders(folder, tmp_path):
    X, y = blobs(N, 8, 3, seed=6)
    stores = [
        write_store(tmp_path / "a.h5", X, y, texts=texts_of(N, 6)),
        write_store(
            tmp_path / "b.h5", X[:300, :4], y[:300], texts=texts_of(300, 6), spec=OTHER_SPEC
        ),
    ]
    rest = [
        write_store(tmp_path / "c.h5", X[::-1], y[::-1], texts=texts_of(N, 7)),
        write_store(tmp_path / "d.h5", X[::-1, :4], y[::-1], texts=texts_of(N, 7), spec=OTHER_SPEC),
    ]
    run("fit", *stores, "--C", 0.01, "-o", tmp_path / "head.joblib")
    run("report", tmp_path / "head.joblib", *rest, "-o", tmp_path / "r.json")
    run("evaluate", tmp_path / "head.joblib", *rest, "--json", tmp_path / "e.json")
    said, expected = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "re")
    del said["metrics"]["measured_on"]
    assert said["metrics"] == expected["metrics"]
    run("report", tmp_path / "head.joblib", *stores, "-o", tmp_path / "r.json")
    own = json.loads((tmp_path / "r.json").read_text())
    assert own["data"]["rows"] == 300
    assert "out of fold" in own["verdict"]
    run(*own["provenance"]["commands"][0].split()[1:])


def test_own_rows_are_judged_out_of_fold_as_fit_does(folder):
    said = report_of(folder, folder / "own.h5")
    expected = fit(folder / "own.h5", C=0.01, cv=5).metrics.to_dict()
    measured_on = said["metrics"].pop("measured_on")
    assert "out of fold" in measured_on
    assert "out of fold" in said["verdict"]
    for name in ("macro_recall", "accuracy", "macro_f1", "log_loss"):
        assert said["metrics"][name] == pytest.approx(expected[name], abs=2e-3)
    run("evaluate", folder / "head.joblib", folder / "own.h5", "--json", folder / "e.json")
    flattering = json.loads((folder / "e.json").read_text())["metrics"]
    assert said["metrics"]["log_loss"] > flattering["log_loss"]


def test_lists_are_of_the_rows_that_they_name(folder):
    said = report_of(folder, folder / "other.h5", folder / "other.jsonl")
    _, y = blobs(N, 8, 3, seed=2)
    texts = texts_of(N, 2)
    assert said["mistakes"]
    for one in said["mistakes"] + said["suspects"]:
        assert (one["id"], one["text"]) == (f"row-{one['row']}", texts[one["row"]])
        assert one["label"] == LABELS[y[one["row"]]] != one["predicted"]
    probabilities = [one["probability"] for one in said["mistakes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    probabilities = [one["probability"] for one in said["uncertain"]]
    assert probabilities == sorted(probabilities)
    assert sum(one["rows"] for one in said["data"]["scripts"]) == N


@pytest.mark.parametrize("rows", ["own", "other"])
def test_no_text_leaks_no_text(folder, rows):
    outputs = ["r.json", "r.md", "r.html"]
    tweets = ["--tweets", folder / f"{rows}.jsonl"]
    where = [word for name in outputs for word in ("-o", folder / name)]
    common = ["report", folder / "head.joblib", folder / f"{rows}.h5", *tweets, *where]
    run(*common)
    for name in outputs:
        # On the page, texts of the map are packed.
        assert "secret" in (folder / name).read_text(), name
    result = run(*common, "--no-text")
    for content in [(folder / name).read_text() for name in outputs] + [result.output]:
        for text in ("secret", "alert(", "right to left", "HYPERLINK", "\u0301"):
            assert text not in content
    assert json.loads((folder / "r.json").read_text())["data"]["scripts"] is None


def test_little_memory_moves_no_figure(folder):
    whole = report_of(folder, folder / "own.h5")
    streamed = report_of(folder, folder / "own.h5", "--memory", "10")
    assert any("--memory" in line for line in streamed["left_out"])
    for name in ("metrics", "learning_curve", "mistakes", "uncertain"):
        assert streamed[name] == whole[name]


def test_a_page_that_is_too_large_leaves_all_files_as_they_were(folder):
    for name in ("x.json", "x.html"):
        (folder / name).write_text("before")
    outputs = ["-o", folder / "x.json", "-o", folder / "x.html"]
    result = run(
        *("report", folder / "head.joblib", folder / "own.h5", *outputs, "--max-size", "9kB"),
        codes=(2,),
    )
    assert "--max-size" in result.output
    assert {(folder / name).read_text() for name in ("x.json", "x.html")} == {"before"}


def test_commands_make_it_again(folder):
    said = report_of(folder, folder / "own.h5")
    again = said["provenance"]["commands"]
    assert again[0].startswith("frostline fit ")
    result = run(*again[0].split()[1:])
    assert "written" in result.output
    run(*again[1].split()[1:])
    second = json.loads((folder / "r.json").read_text())
    assert second["metrics"]["macro_recall"] == pytest.approx(said["metrics"]["macro_recall"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own.h5", "-o", "r.pdf"], "must end in"),
        (["own.h5", "-o", "own.json", "-o", "own.json"], "twice"),
        (["own.jsonl", "-o", "r.json"], "no cached vectors"),
        (["own.h5", "other.jsonl", "-o", "other.jsonl"], "must end in"),
        (["own.h5", "-o", "r.json", "--max-size", "much"], "--max-size"),
        (["own.h5", "-o", "r.json", "--text-column", "x"], "--tweets"),
        (["own.h5", "-o", "nowhere/r.json"], "does not exist"),
        (["foreign.h5", "-o", "r.json"], "encoder"),
        (["unlabelled.h5", "-o", "r.json"], "no labelled rows"),
        (["own.h5", "short.jsonl", "-o", "r.json"], "no tweet with id"),
    ],
)
def test_what_is_refused(folder, arguments, words, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("r.json", "own.json"):
        (folder / name).write_text("before")
    result = run("report", "head.joblib", *arguments, codes=(2, 3))
    assert words in result.output
    assert "Traceback" not in result.output
    for name in ("r.json", "own.json"):
        assert (folder / name).read_text() == "before"


def test_without_umap_nothing_is_written_and_the_cure_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    (folder / "r.html").write_text("before")
    asked = ["report", folder / "head.joblib", folder / "own.h5", "-o", folder / "r.html"]
    result = run(*asked, "--map", "umap", codes=(2,))
    assert "pip install 'frostline[umap]'" in result.output
    assert "--map pca" in result.output
    assert (folder / "r.html").read_text() == "before"
    run(*asked, "--map", "pca")
    assert "(PCA)" in (folder / "r.html").read_text()


def test_a_report_says_that_its_map_is_by_umap(folder):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    page = ["-o", folder / "u.html"]
    said = report_of(folder, folder / "own.h5", *page, "--map", "umap")["provenance"]
    assert said["map"]["kind"] == "umap"
    assert said["map"]["seed"] == 0
    assert said["commands"][1].endswith("--map umap")
    assert "arranged by UMAP" in (folder / "u.html").read_text()
    assert report_of(folder, folder / "own.h5")["provenance"]["map"] == {"kind": "pca"}


def test_an_input_is_not_replaced(folder):
    (folder / "list.json").write_text('[{"id": "row-0", "text": "a"}]')
    result = run(
        "report",
        folder / "head.joblib",
        folder / "own.h5",
        folder / "list.json",
        "-o",
        folder / "list.json",
        codes=(2,),
    )
    assert "is an input too" in result.output


def test_what_has_changed_since_itself_is_nothing(folder):
    said = report_of(folder, folder / "other.h5", "--against", folder / "head.joblib")
    assert said["changes"]["flipped"] == 0
    assert {one["difference"] for one in said["changes"]["metrics"]} == {0.0}


def test_what_has_changed_since_a_worse_head(folder):
    X, y = blobs(N, 8, 3, seed=1)
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(N) < 0.5, rng.integers(0, 3, N), y)
    store = write_store(folder / "wrong.h5", X, wrong)
    save_head(fit(store, C=0.01).head, folder / "worse.joblib")
    said = report_of(folder, folder / "other.h5", "--against", folder / "worse.joblib")
    by_name = {one["name"]: one for one in said["changes"]["metrics"]}
    assert by_name["log-loss"]["high"] < 0
    assert by_name["log-loss"]["after"] == pytest.approx(said["metrics"]["log_loss"])
    assert said["changes"]["flipped"] > 0
