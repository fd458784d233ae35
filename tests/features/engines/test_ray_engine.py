"""Ray on this machine and on clusters: what it listens to, what it leaves, what may die."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray_drivers import Driver, is_gone, listening, ports, wait_for

from features.engines import ray_nodes
from features.engines.cores import divided, nodes
from features.engines.ray_address import address_of
from features.engines.ray_engine import RayEngine
from features.errors import InputError

pytest.importorskip("ray")

# What a program finds in a cluster of its own, and what that leaves behind.
OWN = """
engine = RayEngine(workers=2)
with engine.session():
    import ray
    found = sorted(map_shards(engine, Facts(0.3), range(4)))
    with sum_shards(engine, Wide(), range(3)) as sums:
        wide = sums(np.ones((3, 4)))[0]
    used = [getattr(ray, f"{which}_resources")() for which in ("cluster", "available")]
    store = used[0]["object_store_memory"] - used[1]["object_store_memory"]
    say(
        pids=[pid for _, (pid, *_) in found],
        cores=[cores for _, (_, cores, _) in found],
        settings=[settings for _, (_, _, settings) in found],
        wide=wide.tobytes().hex(),
        store=store,
    )
    input()
say(left=[name for name in os.environ if "AUTH" in name], path=os.environ.get("PYTHONPATH"))
"""
# A program that joins a cluster.
JOINED = """
try:
    engine = RayEngine({address!r}, workers=1)
    say(found=[cores for _, (_, cores, _) in map_shards(engine, Facts(), range(1))])
except Exception as error:
    say(kind=type(error).__name__, said=str(error))
"""
# A program that would run for a minute or two.
LONG = """
say(began=os.getpid())
try:
    engine = RayEngine(workers=2)
    for number, (pid, *_) in map_shards(engine, Facts(0.5), range(200)):
        say(pid=pid)
except Exception as error:
    say(kind=type(error).__name__, said=str(error))
"""


def left():
    """The folders of Ray's files that are there."""
    return set(Path("/tmp").glob("*frostline-ray-*"))


# What may be in the environment of somebody who uses Ray otherwise, or against us.
STRANGE = {
    "RAY_ADDRESS": "nonsense:1:2",
    "RAY_AUTH_MODE": "disabled",
    "RAY_CLIENT_MODE": "1",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": "{no json",
    "RAY_OVERRIDE_DASHBOARD_URL": "http://127.0.0.1:8265",
    "RAY_REDIS_ADDRESS": "127.0.0.1:1",
    "RAY_RUNTIME_ENV_HOOK": "no.such.hook",
    "RAY_TMPDIR": "/nowhere",
}


def test_a_cluster_of_our_own():
    """It listens on loopback alone, asks for a token, and leaves nothing, whatever is set."""
    with Driver(OWN, **STRANGE) as driver:
        facts = driver.hear()
        family, folders = driver.family(), left()
        assert len(set(facts["pids"])) <= 2
        shares = {tuple(sorted(cores)) for cores in divided(nodes(), 2)}
        assert {tuple(cores) for cores in facts["cores"]} <= shares
        assert {s["OMP_NUM_THREADS"] for s in facts["settings"]} == {str(len(min(shares)))}
        assert facts["store"] == 0.0
        heard = listening(family)
        assert set(heard) <= {"127.0.0.1", "::1"}
        assert not {name for names in heard.values() for name in names if "dash" in name.lower()}
        assert "gcs_server" in str(heard)
        gcs = next(one for one in family if one.name() == "gcs_server")
        variables = gcs.environ()
        assert (len(variables["RAY_AUTH_TOKEN"]), variables["RAY_AUTH_MODE"]) == (64, "token")
        code, facts, errors = driver.end(stdin="\n")
        assert (code, facts[0]["left"], errors) == (0, ["RAY_AUTH_MODE"], "")
    wait_for(lambda: all(map(is_gone, family)))
    assert folders - left()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "`ray_address` is '': give auto, HOST:PORT"),
        ("nowhere", "`ray_address` is 'nowhere': give auto, HOST:PORT"),
        ("host:many", "`ray_address` is 'host:many': give auto, HOST:PORT"),
        ("127.0.0.1:1", "nothing answers there: Connection refused; start a cluster there"),
        ("ray://127.0.0.1:1", "nothing answers there: Connection refused; start a cluster there"),
    ],
)
def test_addresses_where_no_cluster_is(address, said):
    with pytest.raises(InputError) as caught, RayEngine(address).session():
        pass
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("named", "running", "latest", "address"),
    [
        ("10.0.0.1:6379", ["127.0.0.1:2"], "127.0.0.1:3", "10.0.0.1:6379"),
        (None, ["127.0.0.1:2"], "127.0.0.1:3", "127.0.0.1:2"),
        (None, ["127.0.0.1:2", "127.0.0.1:4"], "127.0.0.1:4", "127.0.0.1:4"),
        (None, [], "10.0.0.1:6379", "10.0.0.1:6379"),  # a node of it may not have the head
        (None, ["127.0.0.1:4", "127.0.0.1:2"], None, "give one of 127.0.0.1:2, 127.0.0.1:4"),
        (None, [], None, "no cluster runs on this machine: start one"),
    ],
)
def test_the_cluster_that_auto_means(monkeypatch, named, running, latest, address):
    monkeypatch.setenv("RAY_ADDRESS", named or "")
    services = SimpleNamespace(
        find_gcs_addresses=lambda: set(running), find_bootstrap_address=lambda folder: latest
    )
    try:
        found = address_of("auto", services)
    except InputError as error:
        found = str(error)
    assert found.partition(address)[1] == address
    assert address_of("ray://host:1", services) == "ray://host:1"


def test_an_address_of_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nonsense:1:x")
    with pytest.raises(
        InputError, match="is 'auto', which is 'nonsense:1:x' here: give auto, HOST"
    ):
        RayEngine("auto").session().__enter__()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"workers": 0}, "`workers` is 0: give 1 or more"),
        ({"gpus_per_worker": 1.5}, "`gpus_per_worker` is 1.5: give a whole number, or a part"),
        ({"gpus_per_worker": -1}, "`gpus_per_worker` is -1: give"),
    ],
)
def test_numbers_out_of_range(chosen, said):
    with pytest.raises(InputError) as caught:
        RayEngine(**chosen)
    assert said in str(caught.value)


@pytest.mark.parametrize("version", ["2.55.1", "2.9.0", "1.13.0"])
def test_versions_with_known_holes_are_refused(monkeypatch, version):
    import ray

    monkeypatch.setattr(ray, "__version__", version)
    with pytest.raises(InputError) as caught, RayEngine().session():
        pass
    assert str(caught.value).startswith(f"Ray {version} lets strangers run code (CVE-2025-62593,")
    assert str(caught.value).endswith(
        "pip install -U 'ray[client]>=2.56', on all nodes of a cluster"
    )


def cluster(*nodes):
    """A cluster of nodes, each with its cores and GPUs."""
    one = object.__new__(ray_nodes.Cluster)
    one.nodes = [ray_nodes.Node(str(n), *parts) for n, parts in enumerate(nodes)]
    return one


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "cores"),
    [
        ([(16.0, 0.0)], 4, 0, 4.0),
        ([(16.0, 0.0), (8.0, 0.0)], 4, 0, 4.0),  # two on each
        ([(2.0, 0.0)], 8, 0, 0.25),
        ([(64.0, 8.0), (4.0, 0.0)], 8, 1, 8.0),  # a node without GPU has no worker
        ([(64.0, 8.0)], 16, 0.5, 4.0),
        ([(0.0, 0.0)], 2, 0, 1.0),  # nodes that may come
    ],
)
def test_cores_of_a_worker(nodes, workers, gpus, cores):
    assert cluster(*nodes).cores_of(workers, gpus) == cores


@pytest.mark.parametrize(
    ("nodes", "gpus", "workers"),
    [
        ([(16.0, 0.0)] * 3, None, 3),
        ([(64.0, 8.0), (64.0, 4.0)], None, 12),
        ([(64.0, 8.0)], 0.5, 16),
        ([(64.0, 8.0)], 2, 4),
        ([(64.0, 8.0)], 0, 1),
        ([], None, 1),
    ],
)
def test_workers_that_fill_a_cluster(nodes, gpus, workers):
    assert cluster(*nodes).default_workers(gpus) == workers


@pytest.mark.parametrize(
    ("nodes", "gpus"), [([(16.0, 0.0)], 1), ([(16.0, 0.0)], 0.5), ([(8.0, 1.0), (8.0, 2.0)], 4)]
)
def test_gpus_that_no_node_has_are_refused_or_waited_for(nodes, gpus):
    most = f"{max(of_node for _, of_node in nodes):g}"
    with pytest.raises(InputError, match=f"is {gpus}, and this machine has {most} GPUs"):
        cluster(*nodes).check_gpus(gpus, may_grow=False)
    with pytest.warns(UserWarning, match=f"is {gpus}, and no node .* than {most} GPUs now"):
        cluster(*nodes).check_gpus(gpus, may_grow=True)


@pytest.mark.parametrize(
    ("nodes", "gpus"), [([(16.0, 0.0)], 0), ([(8.0, 1.0), (8.0, 2.0)], 2), ([(8.0, 1.0)], 0.5)]
)
@pytest.mark.filterwarnings("error")
def test_gpus_that_a_node_has_are_taken(nodes, gpus):
    cluster(*nodes).check_gpus(gpus, may_grow=False)
    cluster(*nodes).check_gpus(gpus, may_grow=True)


@pytest.mark.slow
def test_a_cluster_that_is_joined_goes_on():
    with Driver(OWN) as owner:
        owner.hear()
        gcs = next(one for one in owner.family() if one.name() == "gcs_server")
        address, variables = f"127.0.0.1:{ports(gcs)[0]}", gcs.environ()
        for _ in range(2):
            with Driver(
                JOINED.format(address=address),
                RAY_AUTH_MODE="token",
                RAY_AUTH_TOKEN=variables["RAY_AUTH_TOKEN"],
                PYTHONPATH=variables["PYTHONPATH"],
            ) as guest:
                code, facts, errors = guest.end()
                assert (code, list(facts[0]), errors) == (0, ["found"], "")
        with Driver(
            JOINED.format(address=address), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64
        ) as stranger:
            code, (refused,), errors = stranger.end()
            assert (code, errors) == (0, "")
        assert refused["kind"] == "InputError"
        assert f"`ray_address` is '{address}', and can't be joined" in refused["said"]
        assert owner.end(stdin="\n")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_the_end_of_ray_is_told(name):
    with Driver(LONG) as driver:
        driver.hear()
        driver.hear()
        next(one for one in driver.family() if one.name() == name).kill()
        code, facts, errors = driver.end(300)
    assert (code, facts[-1].get("kind"), errors) == (0, "CannotContinue", "")
    assert facts[-1]["said"].startswith("Ray has ended on this machine")
    assert len(facts) < 200


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_ray_ends_with_a_driver_that_is_killed(with_signal):
    with Driver(LONG) as driver:
        driver.hear()
        driver.hear()
        family, folders = driver.family(), left()
        driver.process.send_signal(with_signal)
        wait_for(lambda: all(map(is_gone, family)), 240)  # its agents look for its head for long
    with Driver(OWN) as driver:  # the next one removes what is left
        driver.hear()
        assert folders - left()
        assert driver.end(stdin="\n")[0] == 0
