"""A folder that is written appears whole, or not at all."""

import stat

import pytest

from features.base import disk
from features.base.atomic import new_folder
from features.errors import CannotContinue, InputError

STEPS = ("sync", "sync_folder", "rename")
# The name is there, and whether it would outlive a power cut is not known.
LAST = ("sync_folder", 2)


def write(path):
    with new_folder(path) as aside:
        (aside / "within").mkdir()
        (aside / "within" / "a").write_text("a")
        (aside / "b").write_text("b")
        assert not path.exists()


def test_it_takes_its_name_with_all_that_is_in_it(tmp_path):
    write(tmp_path / "new")
    assert (tmp_path / "new" / "within" / "a").read_text() == "a"
    assert (tmp_path / "new" / "b").read_text() == "b"
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", range(3))
def test_a_disk_that_refuses_leaves_nothing(step, number, tmp_path, monkeypatch):
    real, calls = getattr(disk, step), []

    def refuse(*arguments):
        calls.append(arguments)
        if len(calls) > number:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(disk, step, refuse)
    try:
        write(tmp_path / "new")
    except CannotContinue as error:
        assert "new cannot be written: No space left on device" in str(error)
        # Its name is its own only when all of it is on the disk.
        assert list(tmp_path.iterdir()) == ([tmp_path / "new"] if (step, number) == LAST else [])
    else:
        assert len(calls) <= number


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_inside_leaves_nothing(error, tmp_path):
    with pytest.raises(error), new_folder(tmp_path / "new") as aside:
        (aside / "a").write_text("a")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "empty", "link"):
        with pytest.raises(InputError, match="is there already"):
            write(tmp_path / name)
    with pytest.raises(InputError, match="does not exist; make it first"):
        write(tmp_path / "no" / "such")
    assert (tmp_path / "file").read_text() == "mine"
