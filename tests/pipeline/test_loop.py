"""Lists go out, a person changes labels in them, and they come back into the next head."""

import csv
import hashlib
import json

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import LABELS, blobs, write_store

from pipeline.cli.commands import main
from pipeline.compare import compare
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.labelling.next_rows import next_rows
from pipeline.labelling.suspects import suspects

N = 240


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def edited(path, change):
    """Go through a list as in a spreadsheet; `change` gives the cell of a row's label."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = change(row)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Rows of which one in six has a wrong label, what is true of them, a pool and a head."""
    folder = tmp_path_factory.mktemp("loop")
    X, y = blobs(N, 8, 3, spread=2)
    rng = np.random.default_rng(4)
    wrong = rng.choice(np.arange(30, N), N // 6, replace=False)
    given = y.copy()
    given[wrong] = (y[wrong] + 1 + rng.integers(0, 2, len(wrong))) % 3
    write_store(folder / "train.h5", X, given)
    pool, of_pool = blobs(100, 8, 3, seed=7, spread=2)
    ids, texts = [f"pool-{n}" for n in range(100)], [f"new {n}" for n in range(100)]
    write_store(folder / "pool.h5", pool, [-1] * 100, ids=ids, texts=texts)
    save_head(fit(folder / "train.h5", C=0.01, cv=5).head, folder / "head.joblib")
    return (
        folder,
        given,
        {f"row-{n}": LABELS[k] for n, k in enumerate(y)}
        | {f"pool-{n}": LABELS[k] for n, k in enumerate(of_pool)},
    )


def test_suspects_with_labels_put_right_go_into_fit(files, tmp_path):
    folder, codes, truth = files
    listed = tmp_path / "suspects.csv"
    head, store = folder / "head.joblib", folder / "train.h5"
    assert run("suspects", head, store, "-n", 60, "-o", listed).exit_code == 0
    edited(listed, lambda row: truth[row["id"]])
    new = tmp_path / "new.joblib"
    result = run("fit", store, "--corrections", listed, "-o", new, "--json", tmp_path / "m.json")
    assert result.exit_code == 0, result.output
    corrected = load_head(new).metadata["corrections"]
    assert corrected["changed"] + corrected["same"] == 60
    assert corrected["changed"] >= 20  # most of the first ones are wrong
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    assert corrected["files"] == [{"name": "suspects.csv", "sha256": digest, "lines": 60}]
    assert json.loads((tmp_path / "m.json").read_text())["corrections"] == corrected
    assert f"{corrected['changed']} labels changed" in " ".join(result.output.split())
    said = " ".join(run("inspect", new).output.split())
    assert f"corrected {corrected['changed']} labels changed, 0 given, by suspects.csv" in said
    assert digest[:12] in said
    # The head is the one of a store with these labels.
    rows = np.loadtxt(listed, str, delimiter=";", encoding="utf-8-sig", skiprows=1)[:, 2]
    y = codes.copy()
    for row in rows.astype(int):
        y[row] = LABELS.index(truth[f"row-{row}"])
    by_hand = write_store(tmp_path / "by_hand.h5", blobs(N, 8, 3, spread=2)[0], y)
    exact = fit(by_hand).head
    assert np.array_equal(load_head(new).coef, exact.coef)
    assert load_head(new).metadata["metrics"] == exact.metadata["metrics"]


def test_a_list_of_rows_to_label_goes_into_fit(files, tmp_path):
    folder, _, truth = files
    listed = tmp_path / "next.csv"
    head, pool = folder / "head.joblib", folder / "pool.h5"
    assert run("label-next", head, pool, "-n", 20, "-o", listed).exit_code == 0
    edited(listed, lambda row: "" if row["id"].endswith("7") else truth[row["id"]])
    left = sum(line.split(";")[0].endswith("7") for line in listed.read_text().splitlines())
    result = fit([folder / "train.h5", pool], corrections=listed)
    assert result.corrections.labelled == result.corrections.rows == 20 - left
    assert result.head.metadata["rows"] == N + 20 - left
    assert result.unlabelled == 80 + left
    # In the next round the pool is what has no label yet.
    found = next_rows(load_head(head), pool, number=20, corrections=listed)
    assert (found.pool, found.labelled) == (80 + left, 20 - left)
    said = run("label-next", head, pool, "--corrections", listed, "-o", tmp_path / "2.csv").output
    assert f"{20 - left} given to rows without one" in " ".join(said.split())


def test_suspects_and_compare_judge_the_corrected_labels(files, tmp_path):
    folder, _, truth = files
    file = tmp_path / "c.csv"
    lines = [f"row-{n},{truth[f'row-{n}']}" for n in range(N)]
    file.write_text("\n".join(["id,label", *lines]), encoding="utf-8")
    head = load_head(folder / "head.joblib")
    clean = write_store(tmp_path / "clean.h5", *blobs(N, 8, 3, spread=2))
    found = suspects(head, folder / "train.h5", corrections=file, repeats=1)
    assert found.ids == suspects(head, clean, repeats=1).ids
    compared, exact = compare(folder / "train.h5", corrections=file), compare(clean)
    assert compared.lines[0].metrics == exact.lines[0].metrics
    assert compared.to_dict()["corrections"]["changed"] == N // 6
    assert exact.to_dict()["corrections"] is None
    json.dumps(compared.to_dict())


def test_quotes_of_excel_safe_lists_are_taken_off_again(files, tmp_path):
    """Ids and labels that a spreadsheet would run come back as they were."""
    X, y = blobs(N, 8, 3, spread=2)
    names, ids = ["-1", "0", "+1"], [f"=row-{n}" for n in range(N)]
    store = write_store(tmp_path / "s.h5", X, y, labels=names, ids=ids)
    save_head(fit(store, C=0.01).head, tmp_path / "head.joblib")
    listed = tmp_path / "suspects.csv"
    result = run("suspects", tmp_path / "head.joblib", store, "--excel-safe", "-o", listed)
    assert result.exit_code == 0, result.output
    rotated = {"'-1": "0", "0": "'+1", "'+1": "'-1"}
    edited(listed, lambda row: rotated[row["label"]])
    assert "'=row-" in listed.read_text(encoding="utf-8-sig")
    found = fit(store, C=0.01, corrections=listed).corrections
    assert (sum(found.changed.values()), found.unknown) == (100, ())
    assert set(found.changed) <= {("-1", "0"), ("0", "+1"), ("+1", "-1")}


def saved(head, folder):
    """Bytes of a file of a head without its corrections, and the corrections that it names."""
    save_head(head, folder / "saved.joblib")
    content = joblib.load(folder / "saved.joblib")
    corrections = content["metadata"].pop("corrections")
    joblib.dump(content, folder / "saved.joblib")
    return (folder / "saved.joblib").read_bytes(), corrections


@settings(max_examples=10, deadline=None)
@given(rows=st.sets(st.integers(0, N - 1), min_size=1), with_row=st.booleans())
def test_corrections_that_equal_the_labels_change_nothing(files, rows, with_row):
    folder, codes, _ = files
    file = folder / "same.csv"
    lines = [f"row-{n},{n if with_row else ''},{LABELS[codes[n]]}" for n in rows]
    file.write_text("\n".join(["id,row,label", *lines]), encoding="utf-8")
    plain, none = saved(fit(folder / "train.h5", C=0.01).head, folder)
    same, record = saved(fit(folder / "train.h5", C=0.01, corrections=file).head, folder)
    assert plain == same
    assert none is None
    assert (record["changed"], record["labelled"], record["same"]) == (0, 0, len(rows))


def test_a_refused_file_leaves_the_head_as_it_was(files, tmp_path):
    folder, _, _ = files
    out, file = tmp_path / "head.joblib", tmp_path / "c.csv"
    out.write_bytes(b"as it was")
    file.write_text("id,row,label\nrow-0,1,neutral\n")
    result = run("fit", folder / "train.h5", "--corrections", file, "-o", out)
    assert result.exit_code == 2
    assert "row 1 does not have id" in result.output
    assert out.read_bytes() == b"as it was"
    result = run("fit", folder / "train.h5", "--corrections", file, "-o", file)
    assert result.exit_code == 2
    assert "is an input too" in result.output


def test_what_is_not_used_and_what_contradicts_is_said(tmp_path):
    X, y = blobs(60, 8, 3)
    twins = write_store(tmp_path / "t.h5", X, y, texts=[f"text {i // 2}" for i in range(60)])
    file = tmp_path / "c.csv"
    other = LABELS[(y[1] + 1) % 3]
    file.write_text(f"id,label\nrow-0,{other}\nwho,{other}\n\x1b[2J,{other}\nrow-5,\n")
    said = run("fit", twins, "--C", 0.1, "--corrections", file, "-o", tmp_path / "h.joblib").output
    said = " ".join(said.split())
    assert '! 2 lines are not used: no row has their ids, "who", "\\u001b[2J"' in said
    assert "1 lines without a label" in said
    assert "have a text that 1 other rows have with another label" in said
    assert "\x1b" not in said
