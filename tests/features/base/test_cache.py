"""What is remembered can be lost, damaged or forbidden at any time, and costs time alone."""

import json

import pytest

from features.base.cache import cache_folder, keep_folder, recall, remember

KEY = {"machine": {"cores": 2}, "views": ["cls", "mean"]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def the_file(folder):
    (path,) = folder.rglob("*.json")
    return path


def test_what_was_kept_is_given_back():
    assert recall("kind", KEY) is None
    remember("kind", KEY, {"rate": 3.5})
    assert recall("kind", KEY) == {"rate": 3.5}
    remember("kind", KEY, [1])
    assert recall("kind", KEY) == [1]
    assert recall("kind", {**KEY, "views": ["cls"]}) is None
    assert recall("other", KEY) is None


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "not JSON": lambda path: path.write_bytes(b"\x80\x04."),
    "not an object": lambda path: path.write_text("[1, 2]"),
    "another key": lambda path: path.write_text(json.dumps({"key": {}, "value": 1})),
    "deep": lambda path: path.write_text("[" * 100_000),
    "huge": lambda path: path.write_bytes(b" " * 2**21 + path.read_bytes()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: path.symlink_to(path.rename(path.with_suffix(".moved"))),
    "gone": lambda path: path.unlink(),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_counts_as_not_there(folder, damage):
    remember("kind", KEY, 1)
    DAMAGES[damage](the_file(folder))
    assert recall("kind", KEY) is None


@pytest.mark.parametrize("place", ["a file", "/proc/frostline"])
def test_a_cache_that_can_not_be_written_is_no_error(tmp_path, monkeypatch, place):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / place))
    remember("kind", KEY, 1)
    assert recall("kind", KEY) is None
    assert keep_folder(cache_folder() / "exports" / "x", lambda aside: None) is None


def test_it_is_the_users_alone(folder):
    remember("kind", KEY, 1)
    assert the_file(folder).stat().st_mode & 0o077 == 0
    assert the_file(folder).parent.stat().st_mode & 0o077 == 0


def test_a_folder_is_kept_whole_or_not_at_all(folder):
    target = folder / "exports" / "one"

    def fail(aside):
        (aside / "half").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keep_folder(target, fail)
    assert list(target.parent.iterdir()) == []

    def full(aside):
        raise OSError(28, "No space left on device")

    assert keep_folder(target, full) is None
    assert list(target.parent.iterdir()) == []
    for content in ("first", "second"):
        assert keep_folder(target, lambda aside, c=content: (aside / "f").write_text(c)) == target
        assert (target / "f").read_text() == content
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_without_a_word_it_lies_where_the_system_wants_it(monkeypatch):
    monkeypatch.delenv("FROSTLINE_CACHE")
    assert cache_folder().name == "frostline"
