"""Files by name, on a disk and in object storage: one contract, against real servers.

The servers are SeaweedFS (`tests/object_store.py`) and fake-gcs-server (`tests/google_store.py`).
`memory://` is fsspec's own.
"""

import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
from busy_proxy import busy_proxy

from features.base import storage
from features.base.remote import filesystem, objects, uploads
from features.errors import CannotContinue, InputError
from features.pieces.split import split
from features.tweets.reader import TweetReader

ROOT = Path(__file__).parents[3]
PLACES = ["path", "file", "memory", "s3", "gs"]


@pytest.fixture
def place(request, tmp_path):
    """An empty folder of a kind, as a target."""
    kind = request.param
    if kind in ("s3", "gs"):
        return request.getfixturevalue(kind)
    folder = tmp_path / "folder"
    folder.mkdir()
    return {
        "path": folder,
        "file": f"file://{folder}",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[kind]


everywhere = pytest.mark.parametrize("place", PLACES, indirect=True)


@everywhere
def test_what_is_written_is_read_listed_and_measured(place):
    one, other = storage.child(place, "b b#?.json"), storage.child(place, "a[0]*.json")
    assert not storage.exists(one)
    storage.put(one, b"first")
    storage.put(other, b"")
    assert storage.read_bytes(one) == b"first"
    assert storage.size(one) == 5
    assert storage.listed(place) == {"a[0]*.json": 0, "b b#?.json": 5}
    assert list(storage.read_each([other, one])) == [b"", b"first"]
    with storage.reading(one) as file:
        file.seek(2)
        assert file.read(2) == b"rs"


@everywhere
def test_a_new_file_is_written_once_and_never_replaced(place):
    target = storage.child(place, "order.json")
    assert storage.put_new(target, b"mine")
    assert not storage.put_new(target, b"yours")
    assert storage.read_bytes(target) == b"mine"
    assert storage.listed(place) == {"order.json": 4}, "nothing is left beside it"


@everywhere
def test_a_version_changes_with_the_content(place):
    target = storage.child(place, "x")
    storage.put(target, b"one")
    before = storage.info(target)
    assert storage.info(target) == before
    storage.put(target, b"two")
    assert storage.info(target) != before


@everywhere
def test_what_is_not_there_is_named(place):
    target = storage.child(place, "nothing.csv")
    assert storage.info(target) is None
    assert storage.listed(target) == {}
    with pytest.raises(InputError, match=r"nothing\.csv: no such file"):
        storage.read_bytes(target)
    with pytest.raises(InputError, match=r"nothing\.csv: no such file"):
        storage.size(target)


@everywhere
def test_a_folder_arrives_with_all_its_files(place, tmp_path):
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "part-00000.h5").write_bytes(b"a" * 1000)
    (made / "inner" / "b").write_bytes(b"b")
    target = storage.child(place, "piece-00000")
    storage.put_folder_new(made, target)
    assert storage.listed(target) == {"part-00000.h5": 1000}
    assert storage.read_bytes(storage.child(target, "inner", "b")) == b"b"
    assert storage.listed(place) == {}, "a folder is not a file"


@pytest.mark.parametrize("place", ["memory", "s3", "gs"], indirect=True)
def test_a_download_is_the_upload(place, tmp_path):
    content = os.urandom(2**18)
    (tmp_path / "up").write_bytes(content)
    target = storage.child(place, "x.h5")
    storage.put_file(tmp_path / "up", target)
    storage.fetch(target, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    with pytest.raises(InputError, match="no such file"):
        storage.fetch(storage.child(place, "y.h5"), tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content


@pytest.mark.parametrize("place", ["memory", "s3", "gs"], indirect=True)
def test_a_new_file_is_uploaded_once_and_never_replaced(place, tmp_path):
    target = storage.child(place, "part-00000.h5")
    (tmp_path / "mine").write_bytes(b"m" * 2**19)
    (tmp_path / "yours").write_bytes(b"y" * 2**18)
    assert storage.put_file_new(tmp_path / "mine", target)
    assert not storage.put_file_new(tmp_path / "yours", target)
    assert storage.read_bytes(target) == b"m" * 2**19


@pytest.mark.parametrize("place", ["path", "s3", "gs"], indirect=True)
def test_of_many_writers_at_once_one_wins(place):
    """Eight threads, each with its own content, put the same ten names."""
    targets = [storage.child(place, f"{n}.json") for n in range(10)]
    start = threading.Barrier(8)
    won = []

    def write(me):
        start.wait(30)
        for n, target in enumerate(targets):
            if storage.put_new(target, f"{me}".encode()):
                won.append((n, me))

    threads = [threading.Thread(target=write, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(n for n, _ in won) == list(range(10))
    for n, me in won:
        assert storage.read_bytes(targets[n]) == f"{me}".encode()


WRITER = """
import sys
from features.base import storage
from features.base.remote import filesystem, objects, uploads
print(*[storage.put_new(f"{sys.argv[1]}/{n}", sys.argv[2].encode()) for n in range(20)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["path", "s3", "gs"], indirect=True)
def test_of_processes_at_once_one_wins(place):
    """Four processes put the same twenty names."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place), str(me)], cwd=ROOT, stdout=subprocess.PIPE
        )
        for me in range(4)
    ]
    said = [writer.communicate(timeout=60)[0].decode().split() for writer in writers]
    for n, of_name in enumerate(zip(*said, strict=True)):
        assert sorted(of_name) == ["False"] * 3 + ["True"]
        winner = of_name.index("True")
        assert storage.read_bytes(storage.child(place, str(n))) == str(winner).encode()


SENDER = """
import sys, time
from pathlib import Path
from features.base import storage
url, file, go = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
storage.exists(url)
while not go.exists():
    time.sleep(0.001)
print(*[storage.put_file_new(file, f"{url}/{n}") for n in range(5)])
"""


@pytest.mark.slow
def test_of_processes_that_upload_at_once_one_wins(s3, tmp_path):
    """Three processes upload the same five names, of 30 MB, more than a client sends at once."""
    with ExitStack() as stack:
        senders = []
        for me in range(3):
            file = tmp_path / f"{me}"
            file.write_bytes(f"{me}".encode() * 30_000_000)
            command = [sys.executable, "-c", SENDER, s3, str(file), str(tmp_path / "go")]
            sender = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
            )
            stack.callback(sender.kill)
            senders.append(sender)
        time.sleep(3)  # all of them should be there
        (tmp_path / "go").touch()
        said = [sender.communicate(timeout=120)[0].decode().split() for sender in senders]
    for n, of_name in enumerate(zip(*said, strict=True)):
        assert sorted(of_name) == ["False", "False", "True"]
        winner = of_name.index("True")
        assert storage.read_bytes(f"{s3}/{n}") == f"{winner}".encode() * 30_000_000


TAKEN = """
import resource, sys
from pathlib import Path
from features.base import storage
url, file = sys.argv[1], Path(sys.argv[2])
storage.exists(url)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
storage.put_file(file, url)
assert storage.put_file_new(file, url + ".new")
storage.fetch(url, file.with_name("back"))
with storage.reading(url) as there:
    while there.read(2**20):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB on Linux alone")
def test_a_large_file_takes_little_memory(s3, tmp_path):
    """400 MiB go there and come back in less than 300."""
    with (tmp_path / "large").open("wb") as file:
        for _ in range(400):
            file.write(os.urandom(2**20))
    command = [sys.executable, "-c", TAKEN, f"{s3}/large", str(tmp_path / "large")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 2**10


@pytest.fixture
def busy(s3_server, s3, monkeypatch):
    """A server that may be too busy, and the URL of a folder there; it is asked again at once."""
    with busy_proxy(s3_server.ports["s3"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr(filesystem, "_PAUSES", (0.01, 0.01))
        monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda **_: 0.01)
        forget_clients()
        yield proxy, s3
    forget_clients()


ASKED = {
    "info": (lambda url, file: storage.size(f"{url}/x"), 4),
    "read": (lambda url, file: storage.read_bytes(f"{url}/x"), b"here"),
    "listed": (lambda url, file: storage.listed(url), {"x": 4}),
    "put_new": (lambda url, file: storage.put_new(f"{url}/new", b"1"), True),
    "put_file_new": (lambda url, file: storage.put_file_new(file, f"{url}/new"), True),
}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("put_file_new"),
        *(pytest.param(one, marks=pytest.mark.slow) for one in ASKED if one != "put_file_new"),
    ],
)
def test_a_busy_server_is_asked_again_and_not_for_ever(asked, busy, tmp_path):
    """botocore asks three times; then it is asked again, here twice."""
    (server, url), (ask, expected) = busy, ASKED[asked]
    (tmp_path / "file").write_bytes(b"1")
    storage.put(f"{url}/x", b"here")
    server.left = 4
    assert ask(url, tmp_path / "file") == expected
    assert server.refused == 4
    server.left, server.refused = 1000, 0
    with pytest.raises(CannotContinue, match="run the same command again"):
        ask(url, tmp_path / "file")
    assert server.refused == 9


def test_a_server_that_drops_the_condition_is_found_out(monkeypatch):
    """A file system that overwrites whatever it is told, as old servers of S3 do."""
    from fsspec.implementations.memory import MemoryFileSystem

    real = MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem, "pipe_file", lambda fs, path, data, mode=None: real(fs, path, data)
    )
    monkeypatch.setattr(uploads, "_keep_to_it", set())
    with pytest.raises(CannotContinue, match=r"If-None-Match.*use a server that keeps to it"):
        storage.put_new(f"memory://{uuid.uuid4().hex}/order.json", b"{}")


def test_a_disk_without_links_says_what_to_do(tmp_path, monkeypatch):
    def link(path, to):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(storage.disk, "link", link)
    with pytest.raises(CannotContinue, match=r"second name.*write to another one"):
        storage.put_new(tmp_path / "order.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_answer_of_a_file_server_is_no_defeat(tmp_path, monkeypatch):
    """The link is made, and the answer is that it is there already, as NFS may say."""
    real = storage.disk.link

    def link(path, to):
        real(path, to)
        raise FileExistsError

    monkeypatch.setattr(storage.disk, "link", link)
    assert storage.put_new(tmp_path / "order.json", b"{}")


WRONG = {
    "no bucket": ("s3://there-is-none/x", {}, r"no bucket 'there-is-none': make it"),
    "no permission": ("s3://tests/x", {"AWS_ACCESS_KEY_ID": "reader"}, "check that these creden"),
    "a wrong key": ("s3://tests/x", {"AWS_ACCESS_KEY_ID": "nobody"}, "give AWS_ACCESS_KEY_ID"),
    "a wrong secret": ("s3://tests/x", {"AWS_SECRET_ACCESS_KEY": "x"}, "give AWS_ACCESS_KEY_ID"),
    "no protocol": ("nothing://x/y", {}, "nothing:// is not known: give the path"),
    "no promise": ("http://127.0.0.1:1/x", {}, "does not promise that a file appears whole"),
    "a chain": ("zip://x::s3://tests/y.zip", {}, "one protocol at a time"),
    "a password": ("s3://me:secret@tests/x", {}, r"s3://\.\.\.@tests/x: a password"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_with_a_cure(case, s3, monkeypatch):
    url, environment, message = WRONG[case]
    forget_clients()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message) as caught:
        storage.put(url, b"x")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    forget_clients()


def forget_clients():
    """A client keeps the credentials that it was made with."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def test_missing_credentials_are_named(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_clients()
    with pytest.raises(InputError, match="no credentials: give AWS_ACCESS_KEY_ID"):
        storage.read_bytes(f"{s3}/x")
    forget_clients()


@pytest.mark.parametrize(
    ("protocol", "module", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")]
)
def test_a_missing_package_names_its_extra(protocol, module, extra):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from features.base import storage\nfrom features.errors import InputError\n"
        f"try:\n    storage.read_bytes('{protocol}://bucket/x')\n"
        "except InputError as error:\n    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert f"pip install 'frostline[{extra}]'" in said.stdout, said.stderr


def test_paths_need_no_package(tmp_path):
    code = (
        "import sys\nfrom features.base import storage\n"
        "storage.put_new(sys.argv[1] + '/x', b'1'); storage.listed(sys.argv[1])\n"
        "assert 'fsspec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT, timeout=60)


@everywhere
def test_what_is_asked_together_is_what_is_asked_one_by_one(place):
    files = [storage.child(place, f"{n}.csv") for n in range(50)]
    for n, file in enumerate(files[1:], 1):
        storage.put(file, b"x" * n)
    with storage.asked_together([*files, files[1], "a/path.csv"]):
        found = [storage.info(file) for file in files]
    assert found == [storage.info(file) for file in files]
    assert [None if one is None else one.size for one in found] == [None, *range(1, 50)]
    storage.put(files[2], b"another")  # it lasts no longer
    assert storage.size(files[2]) == 7


def test_many_files_are_asked_for_once_when_they_are_given_and_when_they_are_split(monkeypatch):
    files = [f"memory://{uuid.uuid4().hex}/{n}.csv" for n in range(20)]
    for file in files:
        storage.put(file, b"text\na\nb\n")
    asked, ask = [], objects._info
    monkeypatch.setattr(objects, "_info", lambda url, *to: asked.append(url) or ask(url, *to))
    TweetReader(files)
    assert sorted(asked) == sorted(files)
    asked.clear()
    assert len(split(files, shard_rows=15)) == 4
    assert sorted(asked) == sorted(files)
