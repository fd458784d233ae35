"""Heads go to a hub and come back, through huggingface_hub's own client and a hub on loopback."""

import csv
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from fake_hub import OWNER, READER, altered, cut, fake_hub, hang_up, status
from hub_client import HubClient, environment
from huggingface_hub import ModelHubMixin
from page_blocks import read_page, steps_of, words_of
from pages import ROOT
from stores import blobs, make_head, write_store

from features.store.reader import FeatureStore
from pipeline import fit
from pipeline.head.head import Head, load_head, save_head

FILES = {"README.md", "config.json", "head.safetensors"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A home, vectors, and the joblib file of a head that has everything."""
    folder = tmp_path_factory.mktemp("hub")
    X, y = blobs(600, 8, 3)
    write_store(folder / "s.h5", X, y)
    save_head(fit(folder / "s.h5", cv=5).head, folder / "head.joblib")
    np.save(folder / "X.npy", X[:50])
    return folder


@pytest.fixture(scope="module")
def started():
    with fake_hub() as hub:
        yield hub


@pytest.fixture
def hub(started):
    """An empty hub without faults."""
    for one in (started.repos, started.lfs):
        one.clear()
    for one in (started.requests, started.received, started.faults):
        one.clear()
    return started


@pytest.fixture(scope="module")
def owner(folder, started):
    client = HubClient(folder, started.url, HF_TOKEN=OWNER)
    client.run("import numpy as np", "X = np.load('X.npy')", "head = load_head('head.joblib')", "0")
    yield client
    client.close()


@pytest.fixture
def pushed(hub, owner):
    assert owner.run("head.push_to_hub('jane/tweets')").error is None
    return hub.repos["jane/tweets"]


def same_bits(client, loaded):
    return client.run(
        f"other = {loaded}", "head.predict_proba(X).tobytes() == other.predict_proba(X).tobytes()"
    )


FROM = {
    "from_pretrained": "Head.from_pretrained('jane/tweets')",
    "with a prefix": "Head.from_pretrained('hf:jane/tweets')",
    "load_head": "load_head('hf:jane/tweets')",
    "at a branch": "load_head('hf:jane/tweets@main')",
}


@pytest.mark.parametrize("way", FROM)
def test_pushed_and_back_with_the_same_bits(way, pushed, owner):
    assert same_bits(owner, FROM[way]).value is True


def test_three_files_go_up_in_one_commit_and_nothing_else(hub, owner):
    answer = owner.run(
        "head.push_to_hub('jane/tweets', commit_message='Ours', license='mit', language=['en'])"
    )
    repo = hub.repos["jane/tweets"]
    assert answer.value == f"{hub.url}/jane/tweets/commit/{repo.refs['main']}"
    assert repo.messages == ["initial commit", "Ours"]
    assert set(repo.at("main")[1]) == {*FILES, ".gitattributes"}
    assert not repo.private
    card = repo.at("main")[1]["README.md"].decode()
    assert "license: mit\n" in card
    assert "language: en\n" in card
    assert "frostline predict hf:jane/tweets tweets.csv" in card


def test_a_name_alone_is_of_whose_token_it_is(hub, owner):
    answer = owner.run("head.push_to_hub('mine')")
    assert answer.value.startswith(f"{hub.url}/jane/mine/commit/")
    card = hub.repos["jane/mine"].at("main")[1]["README.md"].decode()
    assert "frostline predict hf:jane/mine tweets.csv" in card
    answer = owner.run("head.push_to_hub('mine', token='hf_wrong')")
    assert answer.error == "InputError"
    assert "hf auth login" in answer.message


def test_a_card_that_the_hub_does_not_take(hub, owner):
    """With what the hub says of it."""
    said = {"errors": [{"message": '"language" must be a code'}], "warnings": []}
    hub.fail("validate-yaml", lambda h: h.send(400, json.dumps(said).encode()))
    answer = owner.run("head.push_to_hub('jane/tweets', language='xx')")
    assert (answer.error, answer.code) == ("InputError", 2)
    assert '"language" must be a code' in answer.message
    assert "\n" not in answer.message


def test_what_is_private_stays_here(hub, owner, folder):
    """No digest of a text, no folder of this machine, in any byte that was sent."""
    lines = [
        "from dataclasses import replace",
        "spec = replace(head.sources[0].spec, model='/home/jane/secret/model')",
        "sources = tuple(replace(one, spec=spec) for one in head.sources)",
        "said = dict(head.metadata, measured_on='the 9 rows of /home/jane/secret/v.h5 and w/x.h5',"
        " changes={'against': '/home/jane/secret/old.joblib', 'rows': 9, 'remarks': ["
        "'/home/jane/secret/old.joblib was fitted on other rows']},"
        " matching={'rows': 9, 'left_out': {'/home/jane/secret/v.h5': 1, 'secret/v.h5': 2}},"
        " data=[{'inputs': ['hf:/home/jane/secret/set:train', 'a.csv', 'hf:a/b:c@' + 'f' * 40]}])",
        "mine = replace(head, sources=sources, metadata=said)",
    ]
    assert owner.run(*lines, "mine.push_to_hub('jane/tweets')").error is None
    sent = b"".join(
        [*hub.received, *hub.lfs.values(), *hub.repos["jane/tweets"].at("main")[1].values()]
    )
    for word in (b"secret", b"/home", str(folder).encode()):
        assert word not in sent
    config = json.loads(hub.repos["jane/tweets"].at("main")[1]["config.json"])
    assert config["metadata"]["measured_on"] == "the 9 rows of v.h5 and x.h5"
    remarks = ["old.joblib was fitted on other rows"]
    expected = {"against": "old.joblib", "rows": 9, "remarks": remarks}
    assert config["metadata"]["changes"] == expected
    assert config["metadata"]["matching"]["left_out"] == {"v.h5": 1, "v.h5 (2)": 2}
    inputs = ["set:train", "a.csv", "hf:a/b:c@" + "f" * 40]
    assert config["metadata"]["data"] == [{"inputs": inputs}]
    assert config["sources"][0]["spec"]["model"] == "model"
    head = load_head(folder / "head.joblib")
    for digest in head.texts.digests.astype("<i8"):
        assert digest.tobytes() not in sent
    assert owner.run("load_head('hf:jane/tweets').texts is None").value is True


def test_digests_go_up_where_that_is_wanted(hub, owner):
    owner.run("head.push_to_hub('jane/tweets', training_texts=True)")
    code = "load_head('hf:jane/tweets').texts.digests.tolist() == head.texts.digests.tolist()"
    assert owner.run(code).value is True
    card = hub.repos["jane/tweets"].at("main")[1]["README.md"].decode()
    assert "They keep digests of 600 training texts" in card


def test_a_second_push_replaces_and_the_first_can_be_pinned(pushed, owner):
    first = pushed.refs["main"]
    owner.run("other = head.with_prior('training')", "other.push_to_hub('jane/tweets')")
    assert len(pushed.commits) == 3
    assert same_bits(owner, "load_head('hf:jane/tweets')").value is False
    assert same_bits(owner, f"load_head('hf:jane/tweets@{first}')").value is True
    pinned = f"Head.from_pretrained('jane/tweets', revision='{first}')"
    assert same_bits(owner, pinned).value is True


def test_a_pull_request_leaves_main_alone(pushed, owner):
    before = pushed.refs["main"]
    answer = owner.run(
        "other = head.with_prior('training')", "other.push_to_hub('jane/tweets', create_pr=True)"
    )
    assert answer.value.endswith("/jane/tweets/discussions/1")
    assert pushed.refs["main"] == before
    assert same_bits(owner, "load_head('hf:jane/tweets@refs/pr/1')").value is False


def test_a_private_repository(hub, owner):
    assert owner.run("head.push_to_hub('jane/closed', private=True)").error is None
    assert hub.repos["jane/closed"].private
    assert same_bits(owner, "load_head('hf:jane/closed')").value is True
    answer = owner.run("Head.from_pretrained('jane/closed', token=False).labels")
    assert (answer.error, answer.code) == ("InputError", 2)
    assert "shows no such repository" in answer.message
    assert "hf auth login" in answer.message


def test_private_refuses_a_public_repository_before_anything_goes_up(pushed, owner):
    answer = owner.run("head.push_to_hub('jane/tweets', private=True)")
    assert answer.error == "InputError"
    assert "there already, and public" in answer.message
    assert len(pushed.commits) == 2


def test_offline_from_the_cache(pushed, owner, hub):
    owner.run("load_head('hf:jane/tweets').labels")
    hub.requests.clear()
    local = "Head.from_pretrained('jane/tweets', local_files_only=True)"
    assert same_bits(owner, local).value is True
    assert hub.requests == []
    answer = owner.run("Head.from_pretrained('jane/never', local_files_only=True).labels")
    assert (answer.error, answer.code) == ("CannotContinue", 4)
    assert "not in the cache" in answer.message


def test_a_hub_that_is_away_is_replaced_by_the_cache_with_a_warning(pushed, owner, hub):
    owner.run("load_head('hf:jane/tweets').labels")
    hub.fail(".", hang_up, times=99)
    answer = same_bits(owner, "load_head('hf:jane/tweets')")
    assert answer.value is True
    (warning,) = answer.warnings
    assert "can't be reached" in warning
    assert pushed.refs["main"][:12] in warning
    answer = owner.run("load_head('hf:jane/never').labels")
    assert (answer.error, answer.code) == ("CannotContinue", 4)
    assert "can't be reached" in answer.message


def test_a_cache_of_ones_own(pushed, owner, folder):
    owner.run("load_head('hf:jane/tweets').labels")
    code = f"Head.from_pretrained('jane/tweets', cache_dir={str(folder / 'own')!r}).labels"
    assert owner.run(code).error is None
    assert {p.name for p in (folder / "own").rglob("*") if p.name in FILES} == FILES - {"README.md"}


INFO = "GET /api/models/jane/tweets"
FILE = "GET /jane/tweets/resolve/.*/head.safetensors"
LOADING = {
    "none": ("jane/never", None, "InputError", "shows no such repository"),
    "no revision": ("jane/tweets@v9", None, "InputError", "no such revision"),
    "unauthorised": (None, (INFO, status(401, "Invalid credentials in Authorization header")),
                     "InputError", "does not know the token|shows no such"),
    "forbidden": (None, (INFO, status(403)), "InputError", "the token may not do this"),
    "too many": (None, (INFO, status(429)), "CannotContinue", "takes no more requests for now"),
    "a fault": (None, (INFO, status(500)), "CannotContinue", "has a fault of its own, 500"),
    "teapot": (None, (INFO, status(418)), "InputError", "the hub answers 418"),
    "cut": (None, (FILE, cut), "CannotContinue", "jane/tweets"),
    "other bytes": (None, (FILE, altered), "FileRefused", "not the file that config.json belongs"),
    "no JSON": (None, (INFO, lambda h: h.send(200, b"<html>")), "CannotContinue", "jane/tweets"),
    "a name that leads away": ("../../etc/passwd", None, "InputError", "no name of a repository"),
    "a revision that leads away": ("jane/tweets@../../x", None, "InputError", "give a branch"),
    "no name": ("", None, "InputError", "no name of a repository"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOADING)
def test_what_goes_wrong_while_loading_is_said_in_one_line(case, pushed, owner, hub, tmp_path):
    name, fault, error, match = LOADING[case]
    if fault is not None:
        hub.fail(*fault, times=99)
    # A cache of its own, as a file that is in the cache is not fetched again.
    code = (
        "from pipeline.head.pretrained import from_hub",
        "from pipeline.hub.address import parse_address",
        "from pipeline.hub.repository import Access",
        f"access = Access(cache_dir={str(tmp_path)!r})",
        f"from_hub(parse_address('hf:{'jane/tweets' if name is None else name}'), access).labels",
    )
    answer = owner.run(*code)
    assert answer.error == error, answer.message
    assert re.search(match, answer.message), answer.message
    assert "\n" not in answer.message
    assert len(answer.message) < 500
    assert "hf_owner" not in answer.message


def test_a_gated_repository(pushed, owner):
    pushed.gated = True
    answer = owner.run(f"Head.from_pretrained('jane/tweets', token={READER!r}).labels")
    assert answer.error == "InputError"
    assert "is gated: ask for access on its page" in answer.message


@pytest.mark.parametrize("missing", ["config.json", "head.safetensors"])
def test_a_repository_of_something_else(missing, pushed, owner, hub):
    del pushed.at("main")[1][missing]
    answer = owner.run("load_head('hf:jane/tweets').labels")
    assert answer.error == "FileRefused"
    assert f"has no {missing}" in answer.message
    assert not any("resolve" in line for line in hub.requests)


def test_a_file_that_is_too_large_is_not_fetched(pushed, owner, hub):
    pushed.at("main")[1]["head.safetensors"] = bytes(2**20)
    answer = owner.run("load_head('hf:jane/tweets', max_bytes=2**19).labels")
    assert answer.error == "FileRefused"
    assert "head.safetensors has 1,048,576 bytes; at most 524,288" in answer.message
    assert not any("resolve" in line for line in hub.requests)


def test_a_head_of_a_stranger_is_checked_like_any_other(pushed, owner):
    files = pushed.at("main")[1]
    config = json.loads(files["config.json"])
    files["config.json"] = json.dumps(config | {"version": 7}).encode()
    pushed.commit({}, "altered")
    answer = owner.run("load_head('hf:jane/tweets').labels")
    assert answer.error == "FileRefused"
    assert answer.message.startswith("hf:jane/tweets: it has version 7")


PUSHING = {
    "a wrong name": ("head.push_to_hub('jane/a/b')", None, "InputError", "no name of a repository"),
    "no commit message": (
        "head.push_to_hub('jane/new', commit_message=' ')", None, "InputError", "is empty"),
    "no such branch": (
        "head.push_to_hub('jane/tweets', branch='v9')", None, "InputError", "no such revision"),
    "an odd licence": (
        "head.push_to_hub('jane/new', license='a: b')", None, "InputError", "`license` is 'a: b'"),
    "an odd language": (
        "head.push_to_hub('jane/new', language='e\\nn')", None, "InputError", "`language` is"),
    "without a token": (
        "head.push_to_hub('jane/new', token=False)", None, "InputError", "hf auth login"),
    "a token that may read": (
        f"head.push_to_hub('jane/new', token={READER!r})", None, "InputError", "role 'write'"),
    "a wrong token": (
        "head.push_to_hub('jane/new', token='hf_wrong')", None, "InputError", "hf auth login"),
    "a fault at the start": (
        "head.push_to_hub('jane/new')", ("repos/create", status(500)), "CannotContinue", "500"),
    "a conflict": (
        "head.push_to_hub('jane/new')", ("POST .*/commit/", status(409)), "CannotContinue",
        "at the same time"),
    "a file too large": (
        "head.push_to_hub('jane/new')", ("PUT /lfs/", status(413)), "InputError", "this size"),
}  # fmt: skip


@pytest.mark.parametrize("case", PUSHING)
def test_what_goes_wrong_while_pushing_is_said_in_one_line(case, pushed, owner, hub):
    code, fault, error, match = PUSHING[case]
    if fault is not None:
        hub.fail(*fault, times=99)
    before = len(pushed.commits)
    answer = owner.run(code)
    assert answer.error == error, answer.message
    assert match in answer.message
    assert "\n" not in answer.message
    assert len(answer.message) < 500
    assert "hf_" not in answer.message
    assert len(pushed.commits) == before
    new = hub.repos.get("jane/new")
    assert new is None or new.messages == ["initial commit"]


def blocks_of_the_page(language):
    """Those of docs/hub.md that need a hub."""
    page = read_page((ROOT / "docs" / "hub.md").read_text(encoding="utf-8"))
    found = [one for one in page.blocks if one.not_run and one.language == language]
    assert found
    return found


def test_the_commands_of_the_page(hub, folder):
    """`push`, and commands that take what was pushed, in the end without a network."""

    def run(words):
        command = [sys.executable, "-m", "pipeline", *words]
        env = environment(folder, hub.url, HF_TOKEN=OWNER)
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)

    (block,) = blocks_of_the_page("bash")
    login, push, predict = (words_of(step.command) for step in steps_of(block))
    assert login is None  # it is not ours, and asks for a token that is in the environment here
    result = run(push)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{hub.url}/jane/sentiment/commit/" in result.stdout
    assert "digests of 600 training texts were left out" in result.stdout
    assert hub.repos["jane/sentiment"].private
    result = run(["s.h5" if word == "tweets.csv" else word for word in predict])
    assert (result.returncode, result.stderr) == (0, "")
    with FeatureStore(folder / "s.h5") as store:
        expected = load_head(folder / "head.joblib").predict(store.read("cls"))
    rows = csv.DictReader((folder / "labelled.csv").read_text().splitlines())
    assert [row["label"] for row in rows] == expected
    hub.fail(".", hang_up, times=99)
    result = run(["inspect", "hf:jane/sentiment"])
    assert result.returncode == 0
    assert re.fullmatch(r"Warning: hf:jane/sentiment: the hub can't be reached .*\n", result.stderr)
    assert "hf:jane/sentiment: a fitted head" in result.stdout


def test_the_python_of_the_page(hub, owner):
    owner.run("head.push_to_hub('jane/sentiment', private=True)")
    repo = hub.repos["jane/sentiment"]
    repo.refs["v1"] = repo.refs["main"]
    (block,) = blocks_of_the_page("python")
    same = "same = head.predict_proba(X).tobytes() == mine.predict_proba(X).tobytes()"
    assert owner.run("mine = head", block.code, same, "head = mine", "same").value is True
    card = repo.at("main")[1]["README.md"].decode()
    assert "license: mit\n" in card


def test_a_binary_head(hub, owner, folder):
    save_head(make_head(2), folder / "two.joblib")
    owner.run("two = load_head('two.joblib')", "two.push_to_hub('jane/two')")
    code = "load_head('hf:jane/two').coef.tobytes() == two.coef.tobytes()"
    assert owner.run(code).value is True


METHODS = {
    "save_pretrained": {"license", "language", "training_texts", "overwrite"},
    "push_to_hub": {"license", "language", "training_texts"},
    "from_pretrained": set(),
}


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_named_as_in_the_hubs_own_mixin(method):
    """But for those that it has no word for."""
    theirs = inspect.signature(getattr(ModelHubMixin, method)).parameters
    mine = inspect.signature(getattr(Head, method)).parameters
    assert set(mine) - METHODS[method] <= set(theirs)
