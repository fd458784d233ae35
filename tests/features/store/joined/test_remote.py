"""A joined store in object storage is read from copies of the shards that are needed."""

import numpy as np
import pytest
from click.testing import CliRunner
from pieces_stores import write_pieces

from features.base import storage
from features.base.remote import copies
from features.base.remote.filesystem import opened
from features.base.remote.places import place_of
from features.errors import FileRefused
from features.store.joined import layout, place
from features.store.reader import FeatureStore
from features.store.verify import verify
from pipeline.cli.commands import main


@pytest.fixture
def there(tmp_path, s3):
    """A store in a bucket that is not joined yet, and its shards on the disk."""
    shards = write_pieces(tmp_path / "store")
    storage.put_folder_new(tmp_path / "store", s3)
    return s3, shards


def here(url):
    """The shards that were brought."""
    return sorted(place_of(url).glob("piece-*/*.h5"))


def test_it_is_joined_and_read_there(there):
    url, shards = there
    with pytest.raises(FileRefused, match=f"frostline verify {url}"):
        FeatureStore(url)
    shown = CliRunner().invoke(main, ["inspect", url], prog_name="frostline")
    assert shown.exit_code == 0 and "4 of 4" in shown.output and f"verify {url}" in shown.output
    found = verify(url)
    assert found.whole and (found.files, found.rows) == (6, 199), found.faults
    for path in here(url):
        path.unlink()
    place._copies.clear()
    with FeatureStore(url) as store, FeatureStore(shards) as listed:
        assert (str(store), store.n_rows) == (url, 199)
        assert here(url) == [], "opening it brings no shard"
        np.testing.assert_array_equal(store.take("cls", np.array([45])), listed.take("cls", [45]))
        assert [path.parent.name for path in here(url)] == ["piece-00000"]
        np.testing.assert_array_equal(store.read("mean"), listed.read("mean"))
        np.testing.assert_array_equal(store.labels(), listed.labels())
        np.testing.assert_array_equal(store.to_torch("cls")[150][0], listed.read("cls")[150])
        assert len(here(url)) == 6


def test_a_single_file_and_a_copy_of_the_index(there, tmp_path):
    """A file is brought whole; the path of a copied index stands for the store that it is of."""
    url, shards = there
    with FeatureStore(layout.shard_path(url, 0, 1)) as store, FeatureStore(shards[1]) as file:
        np.testing.assert_array_equal(store.read("cls"), file.read("cls"))
    assert verify(url).whole
    with FeatureStore(copies.here(url)) as store:
        assert (str(store), store.ids(slice(198, 199))) == (url, ["3:2:0"])


@pytest.mark.slow
def test_copies_take_bounded_room(there, monkeypatch):
    url, shards = there
    verify(url)
    place._copies.clear()
    for path in here(url):
        path.unlink()
    monkeypatch.setattr(place, "_room", lambda: 2 * shards[0].stat().st_size)
    with FeatureStore(url) as store, FeatureStore(shards) as listed:
        for _ in range(2):
            np.testing.assert_array_equal(store.read("cls"), listed.read("cls"))
            assert len(here(url)) <= 3
    place._copies.clear()


def test_a_shard_that_is_missing_or_another_one(there):
    url, shards = there
    assert verify(url).whole
    for path in here(url):
        path.unlink()
    place._copies.clear()
    storage.put(layout.shard_path(url, 2, 0), shards[0].read_bytes())
    with FeatureStore(url) as store, pytest.raises(FileRefused, match="receipts/00002") as caught:
        store.ids()
    assert "promises" in str(caught.value)
    client, path = opened(layout.shard_path(url, 3, 1))
    client.rm(path)
    with FeatureStore(url) as store, pytest.raises(FileRefused, match=r"is missing.*00003"):
        store.ids(slice(160, 199))
    assert ["00002" in one.reason or "00003" in one.reason for one in verify(url).faults] == [1, 1]
