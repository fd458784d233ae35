"""Clients that are slow, cut off, too large or wrong are answered, and the others are served."""

import gc
import gzip
import json
import re
import socket
import time

import pytest
from serving import ask, in_thread, made_head
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from pipeline.scoring.predict import encoders_of
from pipeline.serve.guards import Entrance, Exchange
from pipeline.serve.limits import Limits
from pipeline.serve.scorer.heads import gathered
from pipeline.serve.scorer.job import Job
from pipeline.serve.scorer.scorer import Scorer

LIMITS = Limits(
    header_seconds=0.4, body_seconds=0.4, max_body_bytes=100_000, max_connections=8, max_queue=300
)
PREDICT = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = PREDICT + b'Content-Length: 20\r\n\r\n{"inputs": "so far"}'
LARGE = b'{"inputs": "' + b"a" * 3_000_000 + b'"}'
BOMB = gzip.compress(b'{"inputs": "' + b" " * 10_000_000 + b'"}')


@pytest.fixture(scope="module")
def scorer(tiny_model):
    heads = gathered([("tiny", made_head(tiny_model("bert"), {"mean": 32}))])
    found = Scorer(heads, encoders_of(heads.encoders), max_queue=LIMITS.max_queue)
    yield found
    found.close()


@pytest.fixture(scope="module")
def port(scorer):
    with in_thread(scorer, LIMITS) as port:
        yield port


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer_to(port, *parts, wait=0.0):
    """Send parts one after another, and give all that comes until the connection is closed."""
    with connected(port) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(wait)
        found = b""
        while part := client.recv(65_536):
            found += part
    return found


# What is sent, part by part, and the status that is answered; each ends its connection.
CASES = {
    "half a head": ([b"POST /predict HTTP/1.1\r\nHost: loc"], 408),
    "half a body": ([PREDICT + b'Content-Length: 20\r\n\r\n{"inp'], 408),
    "no HTTP": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
    "a wrong length": ([PREDICT + b"Content-Length: -1\r\n\r\n"], 400),
    "two lengths": ([PREDICT + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"], 400),
    "a head without end": ([b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 200_000], 431),
    "many headers": ([b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 30_000], 431),
    "a large body": (
        [PREDICT + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(LARGE), LARGE],
        413,
    ),
    "a large body in chunks": (
        [
            PREDICT + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n",
        ],
        413,
    ),
    "a large body that waits to be asked for": (
        [PREDICT + b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n"],
        413,
    ),
    "a bomb": (
        [
            PREDICT + b"Connection: close\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: %d\r\n\r\n" % len(BOMB),
            BOMB,
        ],
        415,
    ),
    "a socket of the web": (
        [
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        ],
        200,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_connection_is_answered(port, case):
    parts, status = CASES[case]
    found = answer_to(port, *parts)
    assert found.startswith(b"HTTP/1.1 %d " % status), found[:200]
    if status != 200:
        body = json.loads(found.partition(b"\r\n\r\n")[2])
        assert body["error_type"] == "Validation"
    assert ask(port, "/predict", {"inputs": "late"})[0] == 200


def test_a_body_that_trickles_is_late(port):
    parts = [PREDICT + b"Content-Length: 2000\r\n\r\n", *[b"a"] * 10]
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            assert answer_to(port, *parts, wait=0.1).startswith(b"HTTP/1.1 408 ")
            parts.append(b"a")


def test_a_connection_on_which_nothing_comes_is_closed(port):
    assert answer_to(port) == b""
    # After a request too, when the next one does not come in one piece.
    found = answer_to(port, GOOD, b"POST /predict HT")
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"408"]


def test_clients_that_go_away_leave_nothing(port, scorer):
    for sent in (GOOD, GOOD[:-5], GOOD[:30], b""):
        with connected(port) as client:
            client.sendall(sent)
    deadline = time.monotonic() + 10
    while scorer.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert scorer.waiting == 0
    assert ask(port, "/health")[0] == 200


# What there is of a request while it is answered.
OF_REQUESTS = (Exchange, Job, Request, RequestResponseCycle)
TOO_LONG = json.dumps({"inputs": "so far " * 100, "truncate": False}).encode()
KINDS = {
    "answered": (GOOD, 200),
    "refused": (GOOD.replace(b"inputs", b"output"), 422),
    "too long": (PREDICT + b"Content-Length: %d\r\n\r\n" % len(TOO_LONG) + TOO_LONG, 413),
}


def test_a_request_goes_with_its_answer(scorer):
    """Without the collector, which looks late at what has been there for long."""
    gc.collect()
    gc.disable()
    try:
        there = {id(one) for one in gc.get_objects() if type(one) in OF_REQUESTS}
        with in_thread(scorer, LIMITS) as port:
            for kind, (request, status) in KINDS.items():
                last = request.replace(b"Host", b"Connection: close\r\nHost")
                found = answer_to(port, request * 9 + last)
                assert found.count(b"HTTP/1.1 %d " % status) == 10, (kind, found[:500])
        left = [one for one in gc.get_objects() if type(one) in OF_REQUESTS]
        # A thread that waits still has the last one.
        assert len([one for one in left if id(one) not in there]) <= 2
    finally:
        gc.enable()


def test_requests_in_a_row_are_answered_in_a_row(port):
    last = GOOD.replace(b"Host", b"Connection: close\r\nHost")
    found = answer_to(port, GOOD * 5 + last)
    assert found.count(b"HTTP/1.1 200 OK") == 6


def test_connections_are_counted(port):
    clients = [connected(port) for _ in range(LIMITS.max_connections)]
    try:
        refused = answer_to(port, b"")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused
        clients[0].sendall(GOOD)
        assert clients[0].recv(65_536).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in clients:
            client.close()
    time.sleep(0.1)
    assert ask(port, "/health")[0] == 200


def test_a_full_queue_says_when_to_come_again(tiny_model):
    heads = gathered([("tiny", made_head(tiny_model("bert"), {"mean": 32}))])
    scorer = Scorer(heads, encoders_of(heads.encoders), max_queue=256)
    try:
        scorer.waiting = 256
        with in_thread(scorer) as port:
            status, headers, answer = ask(port, "/predict", {"inputs": "late"})
        assert (status, answer["error_type"]) == (429, "Overloaded")
        assert 1 <= int(headers["retry-after"]) <= 60
    finally:
        scorer.close()


def test_a_token_opens_what_is_closed(scorer):
    with in_thread(scorer, entrance=Entrance(b"0123456789abcdef", frozenset())) as port:
        body = {"inputs": "late"}
        for wrong in ({}, {"authorization": "Bearer 0123456789abcdeF"}, {"authorization": "x"}):
            status, headers, answer = ask(port, "/predict", body, **wrong)
            assert (status, answer["error_type"]) == (401, "Unauthorized")
            assert headers["www-authenticate"] == "Bearer"
            assert ask(port, "/metrics", **wrong)[0] == 401
        right = {"authorization": "bearer 0123456789abcdef", "host": "any.example"}
        assert ask(port, "/predict", body, **right)[0] == 200
        assert ask(port, "/health", host="any.example")[0] == 200
        assert ask(port, "/openapi.json")[2]["security"] == [{"token": []}]


def test_a_request_has_an_id(port):
    own = {ask(port, "/health")[1]["x-request-id"] for _ in range(3)}
    assert len(own) == 3
    assert ask(port, "/health", x_request_id="mine-1")[1]["x-request-id"] == "mine-1"
    assert ask(port, "/health", x_request_id="not\tmine")[1]["x-request-id"] != "not\tmine"
