"""What people do with URLs: both stages read and write object storage, as they do with paths.

The servers are SeaweedFS, a real S3 server in a process of its own (`tests/object_store.py`), and
fake-gcs-server, which speaks the protocol of Google's (`tests/google_store.py`).
"""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from engine_works import Inline
from object_store import KEY, SECRET, object_store
from stores import blobs, make_head, write_store

from features import FeatureStore, extract, verify
from features.base import storage
from features.base.remote import copies, places
from features.errors import CannotContinue, FileRefused, InputError
from pipeline import fit, load_head, save_head
from pipeline.cli.commands import main

ROOT = Path(__file__).parents[1]
LABELS = ["class 0", "class 1", "class 2"]
ROWS = [(f"a text of number {n}", f"class {n % 3}") for n in range(60)]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tweets(rows=ROWS):
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def same_rows(one, other):
    """Whether two stores hold the same: vectors, ids, labels and digests."""
    with FeatureStore(one) as a, FeatureStore(other) as b:
        assert a.views == b.views
        assert a.ids() == b.ids()
        np.testing.assert_array_equal(a.digests(), b.digests())
        np.testing.assert_array_equal(a.labels(), b.labels())
        for view in a.views:
            np.testing.assert_array_equal(a.read(view), b.read(view))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, empty."""
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["s3", "gs"])
def labelled(request, tmp_path):
    """A store and a head, in a bucket and here."""
    return fill(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def in_s3(s3, tmp_path):
    """The same in a bucket of S3."""
    return fill(s3, tmp_path)


def fill(bucket, folder):
    X, y = blobs(90, 8, 3)
    write_store(folder / "s.h5", X, y, labels=LABELS)
    write_store(folder / "new.h5", X, np.full(90, -1), labels=[])
    save_head(make_head(3), folder / "head.joblib")
    for name in ("s.h5", "new.h5", "head.joblib"):
        storage.put_file(folder / name, f"{bucket}/{name}")
    storage.put(f"{bucket}/t.csv", tweets().encode())
    return bucket


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_vectors_are_the_same_from_and_to_a_url(s3, tiny_model, tmp_path, cache):
    (tmp_path / "t.csv").write_text(tweets())
    storage.put(f"{s3}/t.csv", tweets().encode())
    options = {"model": tiny_model("bert"), "pooling": ["mean", "cls"]}
    extract(tmp_path / "t.csv", tmp_path / "here.h5", **options)
    summary = extract(f"{s3}/t.csv", f"{s3}/there.h5", **options)
    assert (summary.output, summary.rows, summary.outcome) == (f"{s3}/there.h5", 60, "written")
    same_rows(tmp_path / "here.h5", f"{s3}/there.h5")
    assert verify(f"{s3}/there.h5").whole
    assert files_in(cache / "outputs") == [], "nothing stays behind"
    again = extract(f"{s3}/t.csv", f"{s3}/there.h5", **options)
    assert (again.outcome, again.encoded) == ("unchanged", 0)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl", "t.parquet", "t.zip"])
def test_every_kind_of_input_is_read(name, s3, tmp_path):
    import gzip
    import zipfile

    import pyarrow
    import pyarrow.parquet

    from features.tweets.reader import TweetReader

    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(tweets().encode()))
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in ROWS))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("t.csv", tweets())
    else:
        columns = dict(zip(("text", "label"), map(list, zip(*ROWS, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    storage.put_file(path, f"{s3}/{name}")
    read = [(one.text, one.label, one.source) for one in TweetReader(f"{s3}/{name}")]
    assert read == [(text, label, f"{s3}/{name}") for text, label in ROWS]


def test_a_star_stands_for_files_by_name(s3, tmp_path):
    from features.tweets.reader import TweetReader

    for name in ("b/2.csv", "b/10.csv", "b/1.csv", "b/note.txt", "c/3.csv"):
        storage.put(f"{s3}/{name}", f"text\n{name}\n".encode())
    assert [one.text for one in TweetReader(f"{s3}/b/*.csv")] == ["b/1.csv", "b/10.csv", "b/2.csv"]
    assert [one.text for one in TweetReader([f"{s3}/*/3.csv"])] == ["c/3.csv"]
    with pytest.raises(InputError, match=r"\*\.tsv: no file matches"):
        TweetReader(f"{s3}/b/*.tsv")


def test_parts_of_a_store_are_made_there(s3, tiny_model, tmp_path, cache):
    """Two jobs, one after the other, and a second try of the first one, which finds all made."""
    (tmp_path / "t.csv").write_text(tweets())
    storage.put(f"{s3}/t.csv", tweets().encode())
    options = {"model": tiny_model("bert"), "pooling": "mean", "shard_rows": 20}
    for part in ("0/2", "1/2"):
        extract(f"{s3}/t.csv", f"{s3}/store", part=part, **options)
        extract(tmp_path / "t.csv", tmp_path / "store", part=part, **options)
    assert extract(f"{s3}/t.csv", f"{s3}/store", part="0/2", **options).made == 0
    same_rows(tmp_path / "store", f"{s3}/store")
    for path in files_in(tmp_path / "store"):
        name = path.relative_to(tmp_path / "store").as_posix()
        if path.suffix == ".h5" or name.startswith(("receipts", "store.json")):
            assert storage.read_bytes(f"{s3}/store/{name}") == path.read_bytes(), name
    assert verify(f"{s3}/store").whole
    result = run("inspect", f"{s3}/store")
    assert result.exit_code == 0, result.output


def test_an_engine_makes_a_store_there(s3, tiny_model, tmp_path):
    options = {"model": tiny_model("bert"), "pooling": "mean", "shard_rows": 20, "backend": "torch"}
    storage.put(f"{s3}/t.csv", tweets().encode())
    summary = extract(f"{s3}/t.csv", f"{s3}/store", engine=Inline(2), **options)
    assert (summary.rows, summary.made) == (60, 3)
    assert verify(f"{s3}/store").whole


def in_files(server, folder, monkeypatch):
    """Say who this is, and where the server is, in the files of AWS alone."""
    server.use(monkeypatch)
    (folder / "credentials").write_text(
        f"[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    (folder / "config").write_text(
        f"[profile work]\nregion = us-east-1\nendpoint_url = {server.url}\n"
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))


@pytest.mark.slow
@pytest.mark.parametrize("known_by", ["environment", "files"])
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_read_and_write_there(
    engine, known_by, s3_server, s3, tiny_model, tmp_path, monkeypatch
):
    """Commands with an engine, from bucket to bucket, give what one process gives here."""
    if known_by == "files":
        in_files(s3_server, tmp_path, monkeypatch)
    (tmp_path / "t.csv").write_text(tweets())
    storage.put(f"{s3}/t.csv", tweets().encode())
    by = ["--engine", engine, "--workers", "2"]
    torch = ["--backend", "torch"]
    store = ["--shard-rows", "20", "--pooling", "mean", "--model", tiny_model("bert"), *torch]
    given = {}
    for at, share, more in ((tmp_path, [], ["--part", "1/1"]), (s3, by, by)):
        lines = [
            ["extract", f"{at}/t.csv", "-o", f"{at}/store", *store, "--dtype", "float32", *more],
            ["fit", f"{at}/store", "-o", f"{at}/h.joblib", *share],
            ["compare", f"{at}/store", "--json", f"{at}/c.json", *share],
            ["evaluate", f"{at}/h.joblib", f"{at}/t.csv", "--json", f"{at}/e.json", *torch, *share],
            ["predict", f"{at}/h.joblib", f"{at}/t.csv", "-o", f"{at}/p.csv", *torch, *share],
        ]
        for line in lines:
            result = run(*line)
            assert result.exit_code == 0, (line, result.output)
        names = ["store/store.json", "h.joblib", "p.csv"]
        given[at] = [storage.read_bytes(storage.child(at, *name.split("/"))) for name in names]
    assert (
        load_head(f"{s3}/h.joblib").coef.tobytes()
        == load_head(tmp_path / "h.joblib").coef.tobytes()
    )
    for index in (0, 2):
        assert given[s3][index] == given[tmp_path][index]


def test_heads_are_fitted_saved_and_loaded(labelled, tmp_path):
    s3 = labelled
    head = fit(f"{s3}/s.h5", C=0.01).head
    save_head(head, f"{s3}/fitted.joblib")
    save_head(fit(tmp_path / "s.h5", C=0.01).head, tmp_path / "fitted.joblib")
    X = np.ones((3, 8), np.float32)
    expected = load_head(tmp_path / "fitted.joblib").predict_proba(X)
    np.testing.assert_array_equal(load_head(f"{s3}/fitted.joblib").predict_proba(X), expected)
    head.save_pretrained(f"{s3}/folder")
    assert {"config.json", "head.safetensors"} <= set(storage.listed(f"{s3}/folder"))
    np.testing.assert_array_equal(load_head(f"{s3}/folder").predict_proba(X), expected)
    with pytest.raises(InputError, match=r"folder holds .*config\.json.* already"):
        head.save_pretrained(f"{s3}/folder")
    make_head(3).save_pretrained(f"{s3}/folder", overwrite=True)
    assert (load_head(f"{s3}/folder").predict_proba(X) != expected).any()


COMMANDS = {
    "check": "check {at}/t.csv --json {at}/check.json",
    "inspect a head": "inspect {at}/head.joblib",
    "inspect a store": "inspect {at}/s.h5",
    "verify": "verify {at}/s.h5 --json {at}/v.json",
    "fit": "fit {at}/s.h5 -o {at}/new.joblib --report {at}/fit.md",
    "evaluate": "evaluate {at}/head.joblib {at}/s.h5 --json {at}/e.json",
    "predict": "predict {at}/head.joblib {at}/s.h5 -o {at}/p.csv",
    "compare": "compare {at}/s.h5 --plot {at}/c.svg --json {at}/c.json",
    "report": "report {at}/head.joblib {at}/s.h5 -o {at}/r.md",
    "suspects": "suspects {at}/head.joblib {at}/s.h5 -o {at}/suspects.csv",
    "label-next": "label-next {at}/head.joblib {at}/new.h5 -o {at}/next.csv",
    "fit against a head": "fit {at}/s.h5 --against {at}/head.joblib -o {at}/next.joblib",
    "export the head alone": "export {at}/head.joblib --format safetensors -o {at}/pretrained",
}
# They load the model of the head, or measure it.
SLOW = {
    "extract": "extract {at}/t.csv -o {at}/made.h5",
    "predict": "predict {at}/mini.joblib {at}/t.csv -o {at}/p.csv",
    "quantify": "quantify {at}/mini.joblib {at}/mini.h5 --json {at}/q.json",
    "explain": "explain {at}/mini.joblib so-happy -o {at}/x.html",
    "export": "export {at}/mini.joblib -o {at}/exported",
    "plan": "plan {at}/t.csv --rows 1e6 --json {at}/plan.json",
    "plan of figures": "plan --measured {at}/plan.json --rows 1e6",
}
# Options that name what is made.
MADE = ("-o", "--json", "--plot", "--report")


def run_at(command, bucket):
    """Run a command with URLs, and give its arguments and what came of it."""
    arguments = [one.format(at=bucket) for one in command.split()]
    return arguments, run(*arguments)


def check_named_by_urls(arguments, result, cache):
    assert result.exit_code == 0, result.output
    assert "/frostline-" not in result.output, "no copy is named"
    assert str(cache) not in result.output
    for given, name in pairwise(arguments):
        if given in MADE:
            assert storage.exists(name) or storage.listed(name), name
    assert files_in(cache / "outputs") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_urls_and_name_them(command, labelled, cache):
    check_named_by_urls(*run_at(COMMANDS[command], labelled), cache)


@pytest.mark.slow
def test_commands_with_a_model_take_urls(labelled, tiny_model, cache):
    """In turn, as each takes what those before have made."""
    extract(f"{labelled}/t.csv", f"{labelled}/mini.h5", model=tiny_model("bert"), pooling="mean")
    save_head(fit(f"{labelled}/mini.h5", C=0.01).head, f"{labelled}/mini.joblib")
    for command in SLOW.values():
        arguments, result = run_at(command, labelled)
        check_named_by_urls(arguments, result, cache)
    assert run_at(SLOW["export"], labelled)[1].exit_code == 2, "nothing may be there"


WRITERS = ("check", "fit", "evaluate", "predict", "compare", "report", "suspects", "label-next")


@pytest.mark.parametrize("command", [*WRITERS, "extract", "export", "extract a part"])
def test_who_may_not_write_is_told_before_the_work(command, in_s3, monkeypatch, cache):
    """One line, exit code 2, and nothing was made."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    s3fs.S3FileSystem.clear_instance_cache()
    commands = {
        **COMMANDS,
        "extract": "extract {at}/t.csv -o {at}/made.h5",
        "extract a part": "extract {at}/t.csv -o {at}/store --shard-rows 20 --part 1/1",
        "export": "export {at}/head.joblib -o {at}/exported",
    }
    _, result = run_at(commands[command], in_s3)
    assert result.exit_code == 2, result.output
    said = [line for line in result.stderr.splitlines() if line]
    assert "cannot be written: Access Denied" in said[-1] and "check that these" in said[-1]
    assert "Traceback" not in result.output
    assert set(storage.listed(in_s3)) == {"head.joblib", "new.h5", "s.h5", "t.csv"}
    assert files_in(cache) == []


def test_a_prediction_is_the_one_of_paths(labelled, tmp_path):
    s3 = labelled
    assert run("predict", f"{s3}/head.joblib", f"{s3}/s.h5", "-o", f"{s3}/p.csv").exit_code == 0
    assert run("predict", tmp_path / "head.joblib", tmp_path / "s.h5", "-o", tmp_path / "p.csv")
    assert storage.read_bytes(f"{s3}/p.csv") == (tmp_path / "p.csv").read_bytes()


FIT = "fit {s3}/s.h5 -o "
REFUSED = {
    "no input": ("predict {s3}/head.joblib {s3}/no.csv -o {s3}/p.csv", 2, "no.csv: no such file"),
    "no such head": ("inspect {s3}/no.joblib", 2, "no.joblib: no such file"),
    "no bucket": (FIT + "s3://nowhere/h.joblib", 2, "no bucket 'nowhere': make it"),
    "an input too": (FIT + "{s3}/s.h5", 2, "is an input too"),
    "no protocol": (FIT + "nope://x/h.joblib", 2, "nope:// is not known"),
    "no promise": (FIT + "http://127.0.0.1:9/h.joblib", 2, "does not promise"),
    "no name": (FIT + "s3://", 2, "names no bucket: give s3://BUCKET/NAME"),
    "a bucket alone": (FIT + "s3://tests", 2, "names no file in its bucket"),
    "a folder": (FIT + "{s3}/", 2, "is a folder with files in it; give"),
    "a name of no bucket": (FIT + "s3://No_Such/h.joblib", 2, "bucket"),
    "a demo": ("demo {s3}/demo", 2, "must lie on this machine; give a path"),
    "a secret": (
        "serve {s3}/head.joblib --token-file {s3}/note.txt",
        2,
        "must lie on this machine",
    ),
    "a model": ("extract {s3}/t.csv -o {s3}/e.h5 --model {s3}/model", 2, "model"),
    "an empty input": ("extract {s3}/empty.csv -o {s3}/e.h5", 2, "empty.csv is empty"),
    "an odd name": (FIT + "{s3}//h.joblib", 2, "an empty part"),
    "no head": ("inspect {s3}/note.txt", 3, "note.txt is not a frostline head"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_so_in_one_line(case, in_s3):
    line, code, message = REFUSED[case]
    storage.put(f"{in_s3}/note.txt", b"no head")
    storage.put(f"{in_s3}/empty.csv", b"")
    result = run(*line.format(s3=in_s3).split())
    assert result.exit_code == code, result.output
    lines = result.output.strip().splitlines()
    assert message in lines[-1], result.output
    assert "Traceback" not in result.output


# Whatever takes a head; nothing else that they take is wrong.
TAKE_A_HEAD = {
    "inspect": "inspect {head}",
    "fit": "fit {at}/s.h5 --against {head} -o {at}/made",
    "evaluate": "evaluate {head} {at}/s.h5",
    "predict": "predict {head} {at}/s.h5 -o {at}/made.csv",
    "quantify": "quantify {head} {at}/s.h5",
    "report": "report {head} {at}/s.h5 -o {at}/made.md",
    "suspects": "suspects {head} {at}/s.h5 -o {at}/made.csv",
    "label-next": "label-next {head} {at}/new.h5 -o {at}/made.csv",
    "explain": "explain {head} so-happy",
    "export": "export {head} --format safetensors -o {at}/made",
    "push": "push {head} some/where",
    "serve": "serve {head} --port 0",
}
BAD_HEADS = {
    "{at}/no.joblib": (2, "no.joblib: no such file"),
    "s3://nowhere/head.joblib": (2, "there is no bucket 'nowhere'"),
    "s3://tests": (2, "s3://tests is a folder without"),
    "{at}/deep": (2, "deep is a folder without"),
    "{at}/deeper": (2, "deeper is a folder without"),
    "{at}/*.joblib": (2, "no such file"),
    "{at}/note.txt": (3, "note.txt is not a frostline head"),
    "{at}/cut.joblib": (3, "cut.joblib is not a frostline head"),
    "{at}/empty.joblib": (3, "empty.joblib is not a frostline head"),
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(one, marks=[] if one in ("inspect", "fit", "serve") else pytest.mark.slow)
        for one in TAKE_A_HEAD
    ],
)
def test_a_head_that_is_none_is_named_by_its_url(command, in_s3):
    whole = storage.read_bytes(f"{in_s3}/head.joblib")
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b"")):
        storage.put(f"{in_s3}/{name}.joblib", content)
    storage.put(f"{in_s3}/note.txt", b"no head")
    storage.put(f"{in_s3}/deeper/note.txt", b"no head")
    storage.put(f"{in_s3}/deep/down/note.txt", b"no head")
    before = storage.listed(in_s3)
    for head, (code, message) in BAD_HEADS.items():
        line = TAKE_A_HEAD[command].format(at=in_s3, head=head.format(at=in_s3))
        result = run(*line.split())
        assert result.exit_code == code, (line, result.output)
        assert message in result.output.strip().splitlines()[-1], (line, result.output)
        assert "Traceback" not in result.output
    assert storage.listed(in_s3) == before


def test_a_head_that_is_too_large_is_not_fetched(s3, tmp_path, monkeypatch):
    storage.put(f"{s3}/large.joblib", b"x" * 2000)
    monkeypatch.setattr(copies.objects, "fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(FileRefused, match=r"large\.joblib has 2,000 bytes; at most 1,000"):
        load_head(f"{s3}/large.joblib", max_bytes=1000)


def test_a_head_from_there_is_read_as_safely(s3, tmp_path):
    """A pickle that would make a file is refused, and makes none."""
    import pickle

    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    storage.put(f"{s3}/bad.joblib", pickle.dumps(Bad()))
    with pytest.raises(FileRefused, match=r"s3://.*bad\.joblib is not a frostline head"):
        load_head(f"{s3}/bad.joblib")
    assert not (tmp_path / "made").exists()


def test_a_copy_is_fetched_once_and_again_when_it_changes(s3, monkeypatch):
    url, fetched = f"{s3}/x.h5", []
    real = copies.objects.fetch
    monkeypatch.setattr(
        copies.objects, "fetch", lambda *given: (fetched.append(given[0]), real(*given))
    )
    storage.put(url, b"one")
    assert copies.here(url).read_bytes() == b"one"
    assert copies.here(url).read_bytes() == b"one"
    assert fetched == [url]
    storage.put(url, b"two")
    assert copies.here(url).read_bytes() == b"two"


def test_paths_are_named_by_their_urls(s3):
    path = places.place_of(f"{s3}/t.csv")
    assert str(InputError(f"{path}: no")) == f"{s3}/t.csv: no"
    assert places.by_url(f"see {path.parent}, and {path}") == f"see {s3}, and {s3}/t.csv"


@pytest.mark.slow
def test_a_server_killed_before_the_upload_costs_no_vector(
    tiny_model, tmp_path, monkeypatch, cache
):
    """The run ends in one line; the same command sends what it had made, with no text encoded."""
    with object_store(tmp_path / "s3") as server:
        server.use(monkeypatch)
        (tmp_path / "t.csv").write_text(tweets())
        options = {"model": tiny_model("bert"), "pooling": "mean"}
        with pytest.raises(CannotContinue, match=r"cannot be written.*; what was made is kept as"):
            extract(
                tmp_path / "t.csv",
                "s3://tests/t.h5",
                **options,
                progress=lambda progress: server.kill(),
            )
        server.start()
        assert not storage.exists("s3://tests/t.h5")
        summary = extract(tmp_path / "t.csv", "s3://tests/t.h5", **options)
        assert summary.encoded == 0
        extract(tmp_path / "t.csv", tmp_path / "here.h5", **options)
        same_rows(tmp_path / "here.h5", "s3://tests/t.h5")
        assert files_in(cache / "outputs") == []


UPLOAD = """
import sys
from pathlib import Path
from features.base import storage
storage.put_file(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["server", "client"])
def test_an_upload_that_is_cut_leaves_nothing_or_all(victim, tmp_path, monkeypatch):
    """A file of several parts; either side is killed in the middle. Then again gives the bytes."""
    content = os.urandom(2**20) * 150
    (tmp_path / "large").write_bytes(content)
    with object_store(tmp_path / "s3") as server:
        server.use(monkeypatch)
        url = "s3://tests/large"
        sending = subprocess.Popen(
            [sys.executable, "-c", UPLOAD, str(tmp_path / "large"), url],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        before, until = used(tmp_path / "s3"), time.monotonic() + 60
        while used(tmp_path / "s3") < before + 2**20 and time.monotonic() < until:
            assert sending.poll() is None, "the upload was too quick to be cut"
            time.sleep(0.01)
        if victim == "server":
            server.kill()
            assert b"CannotContinue" in sending.communicate(timeout=200)[1]
            server.start()
        else:
            sending.kill()
            sending.communicate(timeout=60)
        assert not storage.exists(url)
        storage.put_file(tmp_path / "large", url)
        storage.fetch(url, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content


def used(folder):
    """Bytes on the disk, not those that files have room for."""
    return sum(path.stat().st_blocks * 512 for path in files_in(folder))
