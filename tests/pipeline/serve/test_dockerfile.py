"""The Dockerfile: its paths are there, its commands parse, and it asks a server that answers."""

import configparser
import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import click
import pytest
from serving import running, write_heads

from pipeline.cli.commands import main

ROOT = Path(__file__).parents[3]


def instructions():
    """Pairs of an instruction and what stands behind it, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, " ".join(rest.split())


def of(name):
    return [rest for found, rest in instructions() if found == name]


def test_what_is_copied_is_there_and_sent_to_the_builder():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = set()
    for words in map(str.split, of("COPY")):
        if not words[0].startswith("--from"):
            *sources, _ = words
            copied.update(sources)
    assert copied == set(kept)
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatchcase("features/__pycache__", line) for line in kept)


def test_the_extras_it_installs_are_there_and_serve_is_one_of_them():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (listed,) = [found for run in of("RUN") for found in re.findall(r"'\.\[(.*?)\]'", run)]
    assert {"serve"} <= set(listed.split(",")) <= set(setup["options.extras_require"])


def test_the_python_of_it_is_one_that_frostline_runs_on():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (version,) = (rest.removeprefix("PYTHON=") for rest in of("ARG"))
    assert f"Programming Language :: Python :: {version}" in setup["metadata"]["classifiers"]


def test_it_serves_with_a_token_and_not_as_root():
    assert json.loads(of("ENTRYPOINT")[0]) == ["frostline"]
    name, *words = json.loads(of("CMD")[0])
    with click.Context(main) as parent:
        context = main.commands[name].make_context(name, words, parent=parent)
    assert context.params["host"] == "0.0.0.0"
    assert context.params["token_file"] is not None
    assert of("EXPOSE") == [str(context.params["port"])]
    assert f":{context.params['port']}/health" in of("HEALTHCHECK")[0]
    assert int(of("USER")[0]) > 0


def test_hadolint_has_nothing_to_say():
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.slow
def test_the_check_of_health_tells_a_server_from_none(minilm, tmp_path):
    check = json.loads(re.search(r"CMD (\[.*\])", of("HEALTHCHECK")[0])[1])
    write_heads(tmp_path, minilm)
    token = tmp_path / "token"
    token.write_text("a-secret-of-more-than-16-characters\n")
    token.chmod(0o600)
    _, *words = json.loads(of("CMD")[0])
    words[words.index("/run/secrets/token")] = token
    words[words.index("head.joblib")] = tmp_path / "mood.joblib"
    with running(*words) as server:
        port = str(server.port)
        ask = [sys.executable, *(word.replace("8080", port) for word in check[1:])]
        assert subprocess.run(ask, timeout=60).returncode == 0
        assert server.ask("/predict", {"inputs": "so happy"})[0] == 401
    assert subprocess.run(ask, timeout=60, capture_output=True).returncode != 0
