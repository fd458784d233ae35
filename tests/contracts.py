"""Check what every backend and every output must do: a new one passes it in one line."""

import functools
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from features import FeatureStore, extract, verify
from features.backends.registry import Backend

# Float32 products, added up in another order.
TOLERANCE = 1e-5


def states(backend: Backend, ids: list[np.ndarray]) -> list[dict[int | str, torch.Tensor]]:
    """Hidden states (t, H) of each text by layer, and the pooler's output (H,), of one batch.

    Of several, where texts of a batch must be of one length.
    """
    if backend.one_length and len({len(text) for text in ids}) > 1:
        return [text for _, same in groupby(ids, len) for text in states(backend, list(same))]
    found: list[dict[int | str, torch.Tensor]] = []
    for part in backend.forward(ids):
        assert part.texts == slice(len(found), len(found) + len(part.lengths))
        for row, length in enumerate(part.lengths.tolist()):
            text: dict[int | str, torch.Tensor] = {
                number: torch.as_tensor(state)[row, :length]
                for number, state in part.layers.items()
            }
            if part.pooler is not None:
                text["pooler"] = torch.as_tensor(part.pooler)[row]
            found.append(text)
    assert [len(next(iter(text.values()))) for text in found] == [len(text) for text in ids]
    return found


def assert_same(left, right, tolerance=TOLERANCE) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for part in one:
            torch.testing.assert_close(one[part], other[part], rtol=0, atol=tolerance)


def with_other_neighbours(ids: list[np.ndarray], kept: int) -> list[np.ndarray]:
    """The batch with all texts but one turned round inside, so that lengths and shapes stay."""
    return [
        text if i == kept else np.concatenate([text[:1], text[-2:0:-1], text[-1:]])
        for i, text in enumerate(ids)
    ]


def check_backend_contract(backend: Backend, ids: list[np.ndarray], expected) -> None:
    """Check a backend against the hidden states that it must give.

    Parameters
    ----------
    backend : Backend
        In float32, with every layer that `expected` has.
    ids : list of int arrays
        Token ids of texts that are not all of one length, the shortest first.
    expected : list of dict of int or "pooler" to Tensor
        Of each text, run alone by transformers: hidden states (t, H) by layer, the pooler's (H,).
    """
    together = states(backend, ids)
    assert_same(together, expected)
    # No text sees another, whatever the company and the order.
    assert_same(together, [states(backend, [text])[0] for text in ids])
    for size in (2, 3):
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        assert_same(together, [text for batch in batches for text in states(backend, batch)])
    assert_same(together[::-1], states(backend, ids[::-1]))
    last = max(part for part in together[0] if part != "pooler")
    for kept in (0, len(ids) // 2, len(ids) - 1):
        after = states(backend, with_other_neighbours(ids, kept))
        assert_same([after[kept]], [together[kept]], tolerance=1e-6)
        longest = -2 if kept == len(ids) - 1 else -1
        assert not torch.allclose(after[longest][last], together[longest][last], atol=1e-3)
    # The same batch gives the same bits, and they outlive the next one.
    again = states(backend, ids)
    kept_bits = [{part: tensor.clone() for part, tensor in text.items()} for text in again]
    states(backend, ids[::-1])
    assert_same(again, kept_bits, tolerance=0)
    assert_same(again, together, tolerance=0)
    # Two threads run it at a time.
    batches = [ids[: 1 + n % len(ids)] for n in range(24)]
    alone = [states(backend, batch) for batch in batches]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(functools.partial(states, backend), batches))
    for mine, undisturbed in zip(found, alone, strict=True):
        assert_same(mine, undisturbed, tolerance=1e-6)


def check_output_contract(rows: list[str], output: Path, **options) -> None:
    """Check an output of `extract`: written, left alone, extended, replaced; whole every time.

    Parameters
    ----------
    rows : list of str
        Texts of tweets, at least six of them, all different.
    output : Path
        Where nothing is yet.
    **options
        Of `extract`, besides input and output.
    """

    def run(texts: list[str], **more):
        source = output.with_name("rows.txt")
        source.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        summary = extract(source, output, **options, **more)
        assert verify(output).whole
        with FeatureStore(output) as store:
            assert store.n_rows == summary.rows == len(texts)
            return summary, {view: store.read(view) for view in store.views}

    def content() -> dict[str, bytes]:
        files = sorted(output.iterdir()) if output.is_dir() else [output]
        return {file.name: file.read_bytes() for file in files}

    short = rows[: len(rows) // 2]
    summary, first = run(short)
    assert (summary.outcome, summary.encoded) == ("written", len(short))
    written = content()
    summary, _ = run(short)
    assert (summary.outcome, summary.encoded) == ("unchanged", 0)
    assert content() == written
    summary, longer = run(rows)
    assert (summary.outcome, summary.encoded) == ("extended", len(rows) - len(short))
    for view, matrix in first.items():
        np.testing.assert_array_equal(longer[view][: len(short)], matrix)
    summary, _ = run(short, overwrite=True)
    assert (summary.outcome, summary.encoded) == ("written", len(short))
    assert content() == written
    # Nothing else is left beside it.
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, "rows.txt"]
