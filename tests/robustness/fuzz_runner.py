"""Feed one reader with damaged and made-up files, watched by an audit hook; see `test_fuzz.py`.

    python fuzz_runner.py TARGET FOLDER EXAMPLES

In a process of its own, as an audit hook can't be taken back. Files are good ones after a few
changes, with pieces of the format strewn in, and pieces of it alone. Ends with a line of JSON:
files read, files refused. Anything but a documented error is a traceback and exit code 1; the hook
ends the process with exit code 3 and the event's name. Parquet files are not here: pyarrow reads
them in a child that has its own tests.
"""

import bz2
import codecs
import encodings.aliases
import gzip
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import LABELS, make_head, write_store

from features.backends.choice import Candidate, Choice
from features.base.paths import journal_path
from features.errors import FrostlineError
from features.extraction.journal import Header, Journal
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import open_file, read_shard
from features.store.structure import check_storage
from features.tweets.reader import TweetReader
from features.tweets.source import _likely_encoding
from pipeline.head.head import load_head, save_head

MEMORY = 4 * 2**30
SECONDS = 60
FORBIDDEN = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.startfile",
    "socket.",
    "ctypes.",
    "pickle.find_class",
    "exec",
    "compile",
    "marshal.",
)
# Events whose first argument is a path that must lie in the folder.
PATHS = (
    "open",
    "os.remove",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.mkdir",
    "os.listdir",
    "os.scandir",
)


@dataclass(frozen=True)
class Target:
    """A reader: what good files of it are, how it reads one, and what its format is made of."""

    name: str
    good: Callable[[Path], None]
    read: Callable[[Path], object]
    pieces: tuple[bytes, ...] = ()


# Of the readers of tweets.
TEXT_PIECES = (
    *b'id text label , \t " "" \n \r \0 { } [ {"text":"x"} NaN 1e999'.split(b" "),
    *b"\\ud800 \\u0000 =cmd() [SEP] PAR1".split(b" "),
    *(b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b\x08", b"\x1b[2J", "\u202e\u0301".encode()),
    gzip.compress(b"id,text\n1,x\n"),
)
# Of pickles: opcodes, lengths, names.
PICKLE_PIECES = (
    *b"\x80\x04 \x93 R b \x81 \x94 ( t u h\x00 j\xff\xff\xff\x7f \x82\x01 . \x97 P0\n Q".split(
        b" "
    ),
    b"cposix\nsystem\n",
    b"\x8c\x05posix",
    b"\x8c\x06system",
    b"\x8c\x0eos.path.abspath",
    b"\x8e" + b"\xff" * 8,
    b"\x93NUMPY\x01\x00v\x00",
)


def warm_up() -> None:
    """Import what readers import only to refuse a file: codecs, and what tells encodings."""
    for name in set(encodings.aliases.aliases.values()):
        with suppress(LookupError):
            codecs.lookup(name)
    for content in (
        b"caf\xe9 \x93a\x94\n" * 20,
        bytes(range(256)) * 8,
        "\u0434\u0430".encode("cp1251"),
    ):
        _likely_encoding(content)


# How files are packed and unpacked, by the end of their names.
PACKINGS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (gzip.compress, gzip.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".zst": (zstandard.compress, zstandard.decompress),
}


def _tweets(name: str, content: bytes) -> Target:
    pack, _ = PACKINGS.get(Path(name).suffix, (bytes, bytes))
    return Target(
        name,
        lambda path: path.write_bytes(pack(content)),
        lambda path: list(TweetReader([path])),
        TEXT_PIECES,
    )


_SPEC = EncoderSpec("some-model", None, "a" * 64, "b" * 64, "c" * 64, 128, "none")
_CHOICE = Choice(
    Candidate("torch", "bfloat16", "prepacked"), 2048, 2, {"torch bfloat16": 800.0}, {}
)


def _fill_journal(path: Path) -> None:
    rng = np.random.default_rng(0)
    output = path.with_name("a.h5")
    with Journal(output) as journal:
        journal.begin(
            Header(VectorSpec(_SPEC, {"mean": 3, "cls": 4}, "half", "float16"), "bfloat16", _CHOICE)
        )
        for n in (3, 1, 7):
            digests = [rng.bytes(16) for _ in range(n)]
            journal.append(
                digests, {"mean": rng.normal(size=(n, 3)), "cls": rng.normal(size=(n, 4))}
            )


def _read_journal(path: Path) -> None:
    with Journal(path.with_name("a.h5")) as journal:
        list(journal.remarks())


def _write_store(path: Path) -> None:
    rng = np.random.default_rng(0)
    X = {"cls": rng.normal(size=(40, 4)), "mean": rng.normal(size=(40, 3))}
    write_store(path, X, np.arange(40) % len(LABELS))


def _read_store(path: Path) -> None:
    """What the child does that a stranger's file is opened by first."""
    with open_file(path) as file:
        check_storage(file, read_shard(file).datasets)


def _quietly(what: Callable[[], object]) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        with suppress(OSError, ImportError):
            what()

    return read


SPOILED: dict[str, Callable[[Path], object]] = {
    "opens": _quietly(lambda: Path("/etc/passwd").read_bytes()),
    "removes": _quietly(lambda: Path("/nowhere/at/all").unlink()),
    "starts": _quietly(lambda: os.system("true")),
    "imports": _quietly(lambda: __import__("no_such_module")),
    "evaluates": _quietly(lambda: eval("1")),
    "raises": lambda path: {}["nothing"],
    "hoards": lambda path: bytearray(2 * MEMORY),
}
CSV = 3 * (
    b'id,text,label\n1,"good, day",yes\n2,"bad ""day""\nsecond line",no\n'
    b"3,\xf0\x9f\x98\x80 fine,yes\n"
)
JSONL = 3 * (
    b'{"id": "1", "text": "good \\ud83d\\ude00", "label": "yes"}\n'
    b'{"text": "bad", "n": [1.5, null]}\n'
)
TARGETS = {
    "csv": _tweets("a.csv", CSV),
    "tsv": _tweets("a.tsv", b"id\ttext\tlabel\n1\tgood\tyes\n2\tbad day\tno\n" * 3),
    "jsonl": _tweets("a.jsonl", JSONL),
    "json": _tweets("a.json", b"[" + JSONL.replace(b"\n", b",\n").rstrip(b",\n") + b"]"),
    "txt": _tweets("a.txt", b"good day\nbad day\n\nfine\r\n"),
    "csv.gz": _tweets("a.csv.gz", CSV),
    "jsonl.gz": _tweets("a.jsonl.gz", JSONL),
    "csv.bz2": _tweets("a.csv.bz2", CSV),
    "csv.zst": _tweets("a.csv.zst", CSV),
    "journal": Target(journal_path(Path("a.h5")).name, _fill_journal, _read_journal),
    "store": Target(
        "a.h5", _write_store, _read_store, (b"HDF", b"OHDR", b"TREE", b"FRHP", b"\xff" * 8)
    ),
    "head": Target(
        "head.joblib",
        lambda path: save_head(make_head(3, widths=(4, 2)), path),
        load_head,
        PICKLE_PIECES,
    ),
    # Readers that do what they must not, so that the tests see this file notice it.
    **{name: Target("a.txt", Path.touch, spoiled) for name, spoiled in SPOILED.items()},
}


def watch(folder: Path, watching: list[bool]) -> None:
    """End the process at the first event that reading a file must not cause."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not watching:
            return
        # A journal names the machine of who writes it; no connection is made for that.
        bad = event.startswith(FORBIDDEN) and event != "socket.gethostname"
        if event in PATHS and not isinstance(arguments[0], int):
            bad = not Path(os.fsdecode(arguments[0])).is_relative_to(folder)
        if event == "import":
            bad = str(arguments[0]).partition(".")[0] not in sys.stdlib_module_names
        if bad:
            watching.clear()
            print(f"reading a file caused {event} {arguments!r}"[:500], flush=True)
            os._exit(3)

    sys.addaudithook(hook)


def contents(target: Target, good: bytes) -> st.SearchStrategy[bytes]:
    """Files of which some are good, most nearly so, and some anything."""
    some = st.binary(max_size=24)
    piece = st.sampled_from(target.pieces) | some if target.pieces else some

    @st.composite
    def strewn(draw: st.DrawFn, good: bytes = good) -> bytes:
        data = draw(damaged(good) | st.just(good))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(data)))
            if draw(st.booleans()):
                data = data[:at] + draw(piece) + data[at + draw(st.integers(0, 8)) :]
            else:  # a part of it, there again or instead
                start = draw(st.integers(0, len(data)))
                part = data[start : start + draw(st.integers(0, 200))]
                data = data[:at] + part + data[at + draw(st.sampled_from([0, len(part)])) :]
        return data

    made_up = st.lists(piece, max_size=30).map(b"".join)
    if packing := PACKINGS.get(Path(target.name).suffix):
        # Damage within is hardly ever reached by damage without.
        pack, unpack = packing
        return strewn() | strewn(unpack(good)).map(pack) | made_up.map(pack)
    return strewn() | strewn() | made_up


def main(name: str, folder: Path, examples: int) -> None:
    """Read so many files."""
    target = TARGETS[name]
    path = folder / target.name
    target.good(path)
    good = path.read_bytes()
    count = {"read": 0, "refused": 0}
    watching: list[bool] = []

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            signal.alarm(SECONDS)
            watching.append(True)
            target.read(path)
            count["read"] += 1
        except FrostlineError as error:
            count["refused"] += 1
            assert "\n" not in str(error), error
        finally:
            watching.clear()
            signal.alarm(0)
            if target is TARGETS["journal"]:  # what it makes beside it is the next one's
                shutil.rmtree(folder)
                folder.mkdir()

    warm_up()
    codecs.lookup(
        "raw_unicode_escape"
    )  # Python's own file, which the first pickle with a `V` opens
    if name not in SPOILED:  # what is imported at the first file and the first error is known
        for content in (good, good[: len(good) // 2], b"\x00"):
            read(content)
    watch(folder, watching)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(target, good))
    def fuzz(content: bytes) -> None:
        read(content)

    fuzz()
    print(json.dumps(count))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]))
