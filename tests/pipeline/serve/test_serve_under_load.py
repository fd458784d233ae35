"""A server of its own process under many clients: nothing is lost, doubled or swapped."""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from load_client import drive, request
from serving import LABELS, running, write_heads

from pipeline.head.head import load_head
from pipeline.scoring.predict import encode_for, encoders_for

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
WORDS = ("bus", "café ☕", "ugh")
POOL = [f"{WORDS[n % 3]} {'so late ' * (n % 13)}{n}" for n in range(150)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, minilm):
    folder = tmp_path_factory.mktemp("load")
    write_heads(folder, minilm)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with running(folder / "mood.joblib", "--backend", "torch") as found:
        yield found


@pytest.fixture(scope="module")
def scores(folder):
    """What `predict` says of each text of the pool."""
    head = load_head(folder / "mood.joblib")
    proba = head.predict_proba(encode_for(head, POOL, encoders_for(head)))
    return dict(zip(POOL, proba.tolist(), strict=True))


def requests_of(n, port, sizes, seed=0):
    """Requests of mixed sizes, with the texts of each."""
    rng = random.Random(seed)
    texts = [rng.choices(POOL, k=rng.choice(sizes)) for _ in range(n)]
    return texts, [
        request("/predict", {"inputs": one if len(one) > 1 else one[0]}, port=port) for one in texts
    ]


def is_answer(reply, texts, scores):
    """Say whether a reply is that of these texts."""
    answer = json.loads(reply.body)
    answer = answer if len(texts) > 1 else [answer]
    return len(answer) == len(texts) and all(
        abs(one["score"] - scores[text][LABELS.index(one["label"])]) < 1e-4
        for text, of_text in zip(texts, answer, strict=True)
        for one in of_text
    )


def assert_all_answered(n, server, scores, clients=64, sizes=(1, 1, 1, 1, 4, 16)):
    texts, requests = requests_of(n, server.port, sizes)
    replies = asyncio.run(drive(server.port, requests, clients))
    assert sorted(reply.number for reply in replies) == list(range(n))
    assert {reply.status for reply in replies} == {200}
    assert [r.number for r in replies if not is_answer(r, texts[r.number], scores)] == []


def abuse(port, stop):
    """Open connections that are wrong in some way, one after another."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sent = (
        head + b"Content-Length: 100\r\n\r\n{",
        head + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
        head + b"Content-Length: 99999999\r\n\r\n" + b"a" * 10_000,
        head + b'Content-Length: 12\r\n\r\n{"inputs":1}',
        b"\x00" * 1000,
        head,
    )
    number = 0
    while not stop.wait(0.01):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(sent[number % len(sent)])
        number += 1


def test_each_of_many_clients_gets_its_own_answers(server, scores):
    assert_all_answered(300, server, scores)


def test_clients_that_misbehave_do_not_disturb_others(server, scores):
    stop = threading.Event()
    other = threading.Thread(target=abuse, args=(server.port, stop))
    other.start()
    try:
        assert_all_answered(100, server, scores, clients=16)
    finally:
        stop.set()
        other.join()


@pytest.mark.slow
def test_ten_thousand_requests(server, scores):
    assert_all_answered(10_000, server, scores)


def schemathesis(server, tmp_path, *options):
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        "[checks.negative_data_rejection]\n"
        'expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422, 429, "5xx"]\n'
    )
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    result = subprocess.run(
        [SCHEMATHESIS, "--config-file", config, "run", url, *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert "No issues found" in result.stdout


def test_the_description_holds(server, tmp_path):
    schemathesis(server, tmp_path, "--phases", "coverage")


@pytest.mark.slow
def test_the_description_holds_for_texts_by_chance(server, tmp_path):
    schemathesis(server, tmp_path, "--max-examples", "300")


def test_a_signal_under_load_loses_nothing(folder, scores):
    """All that was sent before the port is closed is answered; then the process ends by itself."""
    with running(folder / "mood.joblib", "--backend", "torch") as server:
        texts, requests = requests_of(5000, server.port, (1, 1, 4, 16), seed=1)
        threading.Timer(1.0, server.process.send_signal, [signal.SIGTERM]).start()
        replies = asyncio.run(drive(server.port, requests, 32))
        assert server.process.wait(60) == 0
    assert 0 < len(replies) < len(requests)
    said = "".join(server.lines)
    assert " POST /predict 200 16 texts " in said
    assert "late" not in said
    assert {reply.status for reply in replies} == {200}
    assert [r.number for r in replies if not is_answer(r, texts[r.number], scores)] == []
