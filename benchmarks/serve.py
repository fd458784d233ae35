"""Ask servers as clients do: throughput, latency, ten heads, memory, and a peer beside ours.

    python benchmarks/serve.py throughput head.joblib tweets.csv
    python benchmarks/serve.py latency head.joblib tweets.csv
    python benchmarks/serve.py heads head.joblib tweets.csv
    python benchmarks/serve.py memory head.joblib tweets.csv --requests 100000
    python benchmarks/serve.py peer head.joblib tweets.csv

`throughput` sends the texts of the tweets from 64 clients in requests of mixed sizes, and scores
the same texts as `predict` does, turn by turn, in processes that are loaded and warm. `latency`
asks for one text at a time alone, then sends mixed requests that come by chance at half the rate
that the server can keep up with, and last from 64 clients that never pause. `heads` asks ten heads
of one encoder for all their scores, and one. `memory` looks at the server's memory while it answers
texts of which none comes twice. `peer` is sentence-transformers with a logistic regression of
scikit-learn behind FastAPI, as people write it: a plain function that encodes the texts of one
request. The clients are one thread of this process (tests/pipeline/serve/load_client.py) and share
the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from features.tweets.reader import Tweet, TweetReader
from pipeline.head.head import load_head, save_head

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "pipeline" / "serve"))

from load_client import Reply, drive, paced, request  # noqa: E402

SIZES = (1, 1, 1, 1, 4, 8, 32)
CLIENTS = 64
# A process that scores a list of texts, again for every line that it is sent.
PREDICT = """
import sys, time
from features.tweets.reader import Tweet, TweetReader
from pipeline.head.head import load_head
from pipeline.scoring.predict import encoders_for, score_tweets
rows = [row for row in TweetReader([sys.argv[2]]) if isinstance(row, Tweet)][: int(sys.argv[3])]
head = load_head(sys.argv[1])
encoders = encoders_for(head)
encoders[0].encode([row.text for row in rows[:64]])
print("ready", flush=True)
for _ in sys.stdin:
    started, cpu = time.perf_counter(), time.process_time()
    n = sum(len(one.ids) for one in score_tweets(head, rows, encoders, on_rejects=list))
    print(n, time.perf_counter() - started, time.process_time() - cpu, flush=True)
"""
PEER = """
import os, sys
import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(os.environ["PEER_MODEL"])
classifier = joblib.load(os.environ["PEER_HEAD"])
app = FastAPI()


class Request(BaseModel):
    inputs: str | list[str]


@app.post("/predict")
def predict(request: Request):
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    proba = classifier.predict_proba(model.encode(texts))
    return [
        [{"label": str(n), "score": float(p)} for n, p in zip(classifier.classes_, row)]
        for row in proba
    ]


model.encode(["warm"] * 8)
print("ready", flush=True)
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


def texts_of(tweets: Path, limit: int) -> tuple[list[str], list[str | None]]:
    """Read texts and their labels."""
    rows = [row for row in TweetReader([tweets]) if isinstance(row, Tweet)][:limit]
    return [row.text for row in rows], [row.label for row in rows]


def mixed(texts: Sequence[str], port: int, path: str = "/predict") -> list[bytes]:
    """Cut texts into requests of mixed sizes."""
    rng, found, at = random.Random(0), [], 0
    while at < len(texts):
        size = rng.choice(SIZES)
        some = list(texts[at : at + size])
        found.append(request(path, {"inputs": some if size > 1 else some[0]}, port=port))
        at += size
    return found


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[int, int]]:
    """Start our server; gives its port and its process's number."""
    command = [sys.executable, "-m", "pipeline", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.match(r"ready on http://\S+:(\d+) ", line):
                yield int(found[1]), process.pid
                break
            print(line, end="", file=sys.stderr)
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@contextmanager
def predicting(head: Path, tweets: Path, limit: int) -> Iterator[Callable[[], list[float]]]:
    """Start a process that scores; gives what lets it do so, and gives rows, seconds and CPU."""
    command = [sys.executable, "-c", PREDICT, str(head.resolve()), str(tweets.resolve())]
    process = subprocess.Popen(
        [*command, str(limit)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    assert stdout.readline() == "ready\n"

    def run() -> list[float]:
        stdin.write("\n")
        stdin.flush()
        return [float(one) for one in stdout.readline().split()]

    try:
        yield run
    finally:
        stdin.close()
        process.wait()
        stdout.close()


def cpu_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """The memory that a process holds, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def timed(
    port: int, requests: Sequence[bytes], clients: int = CLIENTS
) -> tuple[float, list[Reply]]:
    """Send requests; give the seconds that all took, and the replies, which are all good."""
    started = time.perf_counter()
    replies = asyncio.run(drive(port, requests, clients))
    seconds = time.perf_counter() - started
    assert {reply.status for reply in replies} == {200}, {reply.status for reply in replies}
    assert len(replies) == len(requests)
    return seconds, replies


def quantile(seconds: Sequence[float], share: float) -> float:
    """Give a quantile in milliseconds."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] * 1000


def throughput(head: Path, tweets: Path, limit: int, rounds: int) -> None:
    texts, _ = texts_of(tweets, limit)
    ratios, costs = [], []
    with predicting(head, tweets, limit) as predict, serving(head) as (port, pid):
        requests = mixed(texts, port)
        timed(port, requests[:CLIENTS])
        print("| predict, texts/s | serve, texts/s | of it | requests/s | CPU s | CPU s |")
        print("|---|---|---|---|---|---|")
        for _ in range(rounds):
            rows, alone, cost = predict()
            before = cpu_seconds(pid)
            seconds, _ = timed(port, requests)
            spent = cpu_seconds(pid) - before
            ratios.append(alone / seconds)
            costs.append(spent / cost)
            print(
                f"| {rows / alone:,.0f} | {len(texts) / seconds:,.0f} | {ratios[-1]:.2f} "
                f"| {len(requests) / seconds:,.0f} | {cost:.1f} | {spent:.1f} |"
            )
    print(
        f"\nserve reaches {statistics.median(ratios):.0%} of predict (asked: 90 %), for "
        f"{statistics.median(costs):.2f} times its CPU; medians of {rounds} rounds"
    )


def latency(head: Path, tweets: Path, limit: int, rounds: int) -> None:
    texts, _ = texts_of(tweets, limit)
    with serving(head) as (port, _):
        single = [request("/predict", {"inputs": text}, port=port) for text in texts[:300]]
        requests = mixed(texts, port)
        timed(port, requests[:CLIENTS])
        alone = [reply.seconds for reply in timed(port, single, clients=1)[1]]
        seconds, replies = timed(port, requests)
        rate = len(requests) / seconds / 2
        spread = asyncio.run(paced(port, requests[: int(rate * 20)], rate))
        assert {reply.status for reply in spread} == {200}
    print("| load | requests/s | p50, ms | p99, ms | p50 over that alone |\n|---|---|---|---|---|")
    base = quantile(alone, 0.5)
    for name, per_second, found in (
        ("one client, one text", len(alone) / sum(alone), alone),
        ("half of what it can, by chance", rate, [one.seconds for one in spread]),
        (f"{CLIENTS} clients without a pause", 2 * rate, [one.seconds for one in replies]),
    ):
        middle = quantile(found, 0.5)
        print(
            f"| {name} | {per_second:,.0f} | {middle:.1f} | {quantile(found, 0.99):.1f} "
            f"| {middle / base:.2f} |"
        )


def heads(head: Path, tweets: Path, limit: int, rounds: int) -> None:
    texts, _ = texts_of(tweets, limit)
    fitted = load_head(head)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"head-{n}.joblib" for n in range(10)]
        for n, path in enumerate(paths):
            save_head(dataclasses.replace(fitted, coef=fitted.coef * (1 + n / 10)), path)
        ratios, costs = [], []
        with serving(paths[0]) as (one, of_one), serving(*paths) as (ten, of_ten):
            turns = [
                (port, pid, mixed(texts, port, "/heads/predict"))
                for port, pid in ((one, of_one), (ten, of_ten))
            ]
            for port, _, requests in turns:
                timed(port, requests[:CLIENTS])
            for _ in range(rounds):
                seconds, spent = [], []
                for port, pid, requests in turns:
                    before = cpu_seconds(pid)
                    seconds.append(timed(port, requests)[0])
                    spent.append(cpu_seconds(pid) - before)
                ratios.append(seconds[1] / seconds[0])
                costs.append(spent[1] / spent[0])
    print(
        f"ten heads take {statistics.median(ratios):.2f} times as long as one (asked: 1.15), and "
        f"{statistics.median(costs):.2f} times its CPU"
    )
    print("rounds: " + ", ".join(f"{ratio:.2f}" for ratio in ratios))


def memory(head: Path, tweets: Path, limit: int, n_requests: int) -> None:
    texts, _ = texts_of(tweets, limit)
    numbered = (f"{text} {n}" for n, text in enumerate(itertools.cycle(texts)))
    per_request = sum(SIZES) / len(SIZES)
    print("| requests | memory, MB |\n|---|---|")
    with serving(head) as (port, pid):
        sent = 0
        for _ in range(10):
            some = list(itertools.islice(numbered, math.ceil(per_request * n_requests / 10)))
            requests = mixed(some, port)
            timed(port, requests)
            sent += len(requests)
            print(f"| {sent:,} | {resident(pid) / 1e6:,.1f} |", flush=True)


def peer(head: Path, tweets: Path, limit: int, rounds: int) -> None:
    import joblib
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    from features.spec.checkpoint import find_checkpoint

    texts, labels = texts_of(tweets, limit)
    folder = find_checkpoint("all-MiniLM-L6-v2").folder
    known = [n for n, label in enumerate(labels) if label is not None][:2000]
    vectors = SentenceTransformer(str(folder)).encode([texts[n] for n in known])
    classifier = LogisticRegression(max_iter=1000).fit(vectors, [labels[n] for n in known])
    with tempfile.TemporaryDirectory() as place, serving(head) as (ours, _):
        joblib.dump(classifier, Path(place) / "peer.joblib")
        theirs = 8477
        process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(theirs)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PEER_MODEL": str(folder),
                "PEER_HEAD": str(Path(place) / "peer.joblib"),
            },
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(2)
            print("| server | requests/s | texts/s | p50, ms | p99, ms |\n|---|---|---|---|---|")
            for _ in range(rounds):
                for name, port in (("frostline serve", ours), ("the peer", theirs)):
                    requests = mixed(texts, port)
                    seconds, replies = timed(port, requests)
                    spent = [reply.seconds for reply in replies]
                    print(
                        f"| {name} | {len(requests) / seconds:,.0f} | {len(texts) / seconds:,.0f} "
                        f"| {quantile(spent, 0.5):,.0f} | {quantile(spent, 0.99):,.0f} |",
                        flush=True,
                    )
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["throughput", "latency", "heads", "memory", "peer"])
    parser.add_argument("head", type=Path)
    parser.add_argument("tweets", type=Path)
    parser.add_argument("--limit", type=int, default=10_000, help="texts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000, help="of memory")
    given = parser.parse_args()
    if given.what == "memory":
        memory(given.head.resolve(), given.tweets, given.limit, given.requests)
    else:
        run = {"throughput": throughput, "latency": latency, "heads": heads, "peer": peer}
        run[given.what](given.head.resolve(), given.tweets, given.limit, given.rounds)


if __name__ == "__main__":
    main()
