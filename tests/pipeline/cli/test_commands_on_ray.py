"""Commands with `--engine ray`: the bytes of those without it, whoever is killed meanwhile."""

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from ray_drivers import PATHS, frostline, is_gone, wait_for

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

WORDS = ["so", "happy", "that", "old", "train", "is", "late", "again"]
ROWS, SHARD_ROWS, PIECES = 6000, 200, 30
MODEL_OPTIONS = ["--backend", "torch", "--dtype", "float32"]
RAY = ["--engine", "ray", "--workers", "2"]
# Bytes that the object store may ever get, of Ray's own bookkeeping.
LITTLE = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    """A folder with tweets, their store and head as they are made without Ray, and their scores."""
    path = tmp_path_factory.mktemp("commands")
    rows = (
        f"r{n},{WORDS[n % 8]} {WORDS[n % 5]} {n},{('good', 'bad', 'ok')[n % 3]}"
        for n in range(ROWS)
    )
    (path / "tweets.csv").write_text("id,text,label\n" + "\n".join(rows) + "\n")
    (path / "model").symlink_to(tiny_model("bert"))
    run(*extract(path, "whole", "--engine", "local", "--workers", "2"))
    run("fit", path / "whole", "-o", path / "head.joblib")
    run(*score(path, "predict", "plain.csv"))
    run(*score(path, "evaluate", "plain.json"))
    return path


def extract(folder, store, *more):
    made = ["--pooling", "mean", "--model", folder / "model", "--shard-rows", SHARD_ROWS]
    return ["extract", folder / "tweets.csv", "-o", folder / store, *made, *MODEL_OPTIONS, *more]


def score(folder, command, output, *more):
    words = [command, folder / "head.joblib", folder / "tweets.csv", "--model", folder / "model"]
    option = "--json" if command == "evaluate" else "-o"
    return [*words, option, folder / output, "--backend", "torch", *more]


def run(*words, **options):
    """Run a command that goes well, and is not disturbed."""
    with frostline(*words, **options) as command:
        code, out, errors = command.done()
    assert code == 0, errors
    return out


@pytest.fixture
def store(folder, request):
    """A folder for a store that is encoded as the whole one was."""
    path = folder / f"store-{abs(hash(request.node.name))}"
    path.mkdir()
    shutil.copy(folder / "whole" / "choice.json", path)
    yield path
    shutil.rmtree(path)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def begun(command, store, receipts=4):
    """All processes of a command, once so many pieces are finished."""
    wait_for(lambda: len(list(store.glob("receipts/*.json"))) >= receipts, 200)
    return command.family()


def ended(family, seconds=200):
    """Wait until all processes are gone; those of Ray look for its head for a minute."""
    wait_for(lambda: all(map(is_gone, family)), seconds)


def actor(command):
    return command.named("ray::Actor")[0]


# Whom a signal is sent to, which one, and the exit code of the command and what it says.
DISTURBED = {
    "an actor is killed": (actor, signal.SIGKILL, 0, "a worker has died, and another goes on"),
    "an actor is stopped": (actor, signal.SIGSTOP, 0, ""),
    "the driver is killed": (lambda command: command.process, signal.SIGKILL, -9, ""),
    "the driver is ended": (lambda command: command.process, signal.SIGTERM, -15, ""),
    "Ctrl-C": (
        lambda command: command.process,
        signal.SIGINT,
        130,
        f"of {PIECES} pieces are finished, and what is encoded of others is kept; run the same",
    ),
}


@pytest.mark.parametrize("case", DISTURBED)
def test_a_store_has_the_same_bytes_whoever_is_killed(folder, store, case):
    whom, with_signal, expected, said = DISTURBED[case]
    with frostline(*extract(folder, store.name, *RAY)) as command:
        family = begun(command, store)
        whom(command).send_signal(with_signal)
        code, _, errors = command.done()
    assert (code, said in errors) == (expected, True), errors
    assert "Traceback" not in errors
    ended(family)
    if code:
        assert not (store / "store.json").exists()
        run(*extract(folder, store.name, *RAY))
    assert files(store) == files(folder / "whole")


@pytest.mark.parametrize(
    ("process", "said"),
    [("raylet", "its raylet"), ("gcs_server", "its head does not answer any more")],
)
def test_a_store_has_the_same_bytes_if_ray_itself_is_killed(folder, store, process, said):
    """Actors outlive it for a moment, in which they may finish everything."""
    with frostline(*extract(folder, store.name, *RAY)) as command:
        family = begun(command, store, receipts=1)
        command.named(process)[0].kill()
        code, _, errors = command.done()
    if code:
        assert (code, f"Error: Ray has ended on this machine ({said}" in errors) == (4, True)
        run(*extract(folder, store.name, *RAY))
    ended(family)
    assert files(store) == files(folder / "whole")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize("kills", [False, True])
def test_scores_have_the_same_bytes(folder, command, kills):
    name = {"predict": "plain.csv", "evaluate": "plain.json"}[command]
    output = folder / f"{kills}-{name}"
    with frostline(*score(folder, command, output.name, *RAY)) as driver:
        if kills:
            wait_for(lambda: len(driver.named("ray::Actor")) == 2, 200)
            actor(driver).kill()
        code, _, errors = driver.done()
    assert code == 0, errors
    assert output.read_bytes() == (folder / name).read_bytes()


def test_next_to_nothing_goes_through_the_object_store(folder, store):
    head, told = folder / "by-ray.joblib", folder / "told"
    for words in (
        extract(folder, store.name, *RAY),
        ["fit", folder / "whole", "-o", head, *RAY],
        score(folder, "predict", "stored.csv", *RAY),
    ):
        run(*words, told=told)
        assert int(told.read_text()) < LITTLE
        told.unlink()


def test_workers_that_run_out_of_memory_end_the_run(folder, store):
    """Ray kills each worker as soon as it has begun: one error, not workers for ever."""
    limits = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    with frostline(*extract(folder, store.name, *RAY), **limits) as command:
        family = []
        wait_for(lambda: family.extend(command.family()) or command.process.poll() is not None, 200)
        code, _, errors = command.done()
    assert code == 4, errors
    assert "memory" in errors.splitlines()[-1]
    ended(set(family))


@contextmanager
def client_server(folder):
    """A cluster with a server of clients: its address, its process, what clients must know."""
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        port, of_clients = one.getsockname()[1], two.getsockname()[1]
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2"]
    start += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}"]
    start += [f"--ray-client-server-port={of_clients}", "--include-dashboard=false"]
    start += ["--object-store-memory=78643200", "--disable-usage-stats"]
    with subprocess.Popen(
        start,
        env={"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": ":".join(PATHS), **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        cluster = psutil.Process(process.pid)
        family = [cluster]
        try:
            wait_for(lambda: listens(of_clients))
            yield f"ray://127.0.0.1:{of_clients}", cluster, variables
        finally:
            family += cluster.children(recursive=True)
            process.terminate()
            process.wait(60)
            for one in family:
                if not is_gone(one):
                    one.kill()


def listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def below(cluster, says):
    """The processes of a cluster in whose command lines this stands."""
    alive = (one for one in cluster.children(recursive=True) if not is_gone(one))
    found = []
    for one in alive:
        with suppress(psutil.NoSuchProcess):  # or a zombie by now
            found += [one] if says in " ".join(one.cmdline()) else []
    return found


def test_a_cluster_is_used_through_its_server_of_clients(folder, store):
    """An actor is killed; then the server that holds the connection; then it is gone on with."""
    with (
        tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as of_ray,
        client_server(of_ray) as (address, cluster, variables),
    ):
        words = extract(folder, store.name, *RAY, "--ray-address", address)
        with frostline(*words, **variables) as command:
            begun(command, store, 2)
            below(cluster, "ray::Actor")[0].kill()
            begun(command, store, 6)
            below(cluster, "--mode=specific-server")[0].kill()
            code, _, errors = command.done()
        assert code == 4, errors
        assert "a worker has died, and another goes on" in errors
        assert f"Error: the connection to the cluster through {address} is lost" in errors
        assert "local Ray instance" not in errors
        run(*words, **variables)
        wait_for(lambda: not below(cluster, "ray::Actor"))
        others = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
        with frostline(*words[:3], folder / "other", *words[4:], **others) as stranger:
            code, _, errors = stranger.done()
        assert code == 2, errors
        assert f"Error: --ray-address is '{address}', and can't be joined" in errors
    assert files(store) == files(folder / "whole")
