"""Tweets and a head in, a stream of scores out, in input order and in bounded memory.

`predict` crosses back into stage one in one place, `encoders_for`: it builds the encoders that the head
itself describes, so that nobody scores with another model, pooling, length or normaliser. Cached
vectors are scored without any model.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
import numpy.typing as npt

from features.batching import live_windows
from features.checkpoint import Checkpoint, find_checkpoint
from features.errors import FileRefused, InputError, NotFinite
from features.formats import printable
from features.layout import SIGNATURE
from features.rejects import RejectLog
from features.spec import EncoderSpec, make_spec
from features.tweets import Reject, Tweet, TweetReader, characters
from pipeline.head import Head
from pipeline.join import Joined, open_joined
from pipeline.matching import Matching
from pipeline.metrics import Metrics, measure
from pipeline.output import replacing
from pipeline.priors import importance

if TYPE_CHECKING:
    from features.encoder import FrozenEncoder, Matrix

# Rows that are encoded together when they are there, and the seconds to wait for more of them when
# the input pauses.
_WINDOW = 2048
_PATIENCE = 0.05
# What a cell of a spreadsheet begins with where it is not taken as it stands.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Scores:
    """Some scored rows, in input order.

    Attributes
    ----------
    ids, texts : list of str
        Texts are those of the input; None for cached vectors.
    labels : list of str or None
        Those of the input, if it has any: the truth, not the prediction.
    proba : float64 array (rows, K)
    """

    ids: list[str]
    texts: list[str] | None
    labels: list[str | None]
    proba: npt.NDArray[np.float64]


def encoders_for(
    head: Head,
    *,
    models: Sequence[str | Path] = (),
    device: str = "auto",
    backend: str = "auto",
    max_batch_tokens: int | None = None,
) -> list[FrozenEncoder]:
    """Load the encoders that a head was fitted on.

    Parameters
    ----------
    head : Head
    models : sequence of str or path
        Where their models lie on this machine, one for each encoder in the order of the head; default:
        the names that the head remembers.
    device, backend, max_batch_tokens
        See `FrozenEncoder`.

    Raises
    ------
    InputError
        A model can't be found, or there are more or fewer than encoders.
    FileRefused
        It is another one; both fingerprints are named.
    """
    encoders = head.encoders
    if models and len(models) != len(encoders):
        raise InputError(
            f"--model was given {len(models)} times, the head has {len(encoders)} encoders: give one "
            "for each, in the order that `frostline inspect` shows"
        )
    found = []
    places: Sequence[str | Path | None] = models or [None] * len(encoders)
    for sources, model in zip(encoders, places, strict=True):
        checkpoint, spec = _checked(sources[0].spec, model)
        from features.encoder import FrozenEncoder  # torch: only where a model runs

        found.append(
            FrozenEncoder.from_checkpoint(
                checkpoint,
                spec,
                pooling=[source.view for source in sources],
                # A head of half-precision vectors takes whichever is faster here; others take their
                # own.
                dtype="auto" if sources[0].precision == "half" else sources[0].precision,
                device=device,
                backend=backend,
                max_batch_tokens=max_batch_tokens,
            )
        )
    return found


def _checked(spec: EncoderSpec, model: str | Path | None) -> tuple[Checkpoint, EncoderSpec]:
    """Find the model of a head's encoder, and make sure that it is the one."""
    try:
        checkpoint = find_checkpoint(model or spec.model, revision=None if model else spec.revision)
    except InputError as error:
        if model is None:
            raise InputError(
                f"the head's model is not here: {error}; say where it lies with --model"
            ) from error
        raise
    limit = checkpoint.position_limit()
    if limit is not None and limit < spec.max_length:
        raise FileRefused(
            f"{checkpoint.name} reads {limit} tokens, encoder {spec.fingerprint[:12]} of the head "
            f"{spec.max_length}: it is another model; give the folder of {spec.model} as --model"
        )
    quantize = spec.quantization.partition("/")[0]
    found = make_spec(
        checkpoint, max_length=spec.max_length, normalize=spec.normalizer, quantize=quantize
    )
    if found.fingerprint != spec.fingerprint:
        raise FileRefused(
            f"{checkpoint.name} makes vectors of encoder {found.fingerprint[:12]}, the head was fitted on "
            f"those of encoder {spec.fingerprint[:12]} ({'; '.join(found.differences(spec))}); give the "
            f"folder of {spec.model} as --model"
        )
    return checkpoint, spec


def score_tweets(
    head: Head,
    rows: Iterable[Tweet | Reject],
    encoders: Sequence[FrozenEncoder],
    *,
    on_rejects: Callable[[Iterable[Reject]], None],
) -> Iterator[Scores]:
    """Score tweets as they come, each encoder once; a pause in the input hands out what is there."""
    for window in live_windows(rows, _WINDOW, _PATIENCE, characters):
        on_rejects(row for row in window if isinstance(row, Reject))
        tweets = [row for row in window if isinstance(row, Tweet)]
        tweets, vectors = _encoded(tweets, encoders, on_rejects)
        if not tweets:
            continue
        # Rounded as the cached vectors are that the head was fitted on, so that scoring a text and
        # scoring its cached vector agree.
        views = [
            vectors[source.spec.fingerprint][source.view]
            .astype(source.store_dtype)
            .astype(np.float32)
            for source in head.sources
        ]
        yield Scores(
            [tweet.id for tweet in tweets],
            [tweet.text for tweet in tweets],
            [tweet.label for tweet in tweets],
            head.predict_proba(np.hstack(views)),
        )


def _encoded(
    tweets: list[Tweet],
    encoders: Sequence[FrozenEncoder],
    on_rejects: Callable[[Iterable[Reject]], None],
) -> tuple[list[Tweet], dict[str, dict[str, Matrix]]]:
    """Encode tweets by each encoder; those that one of them can't read are left out of all."""
    while True:
        texts = [tweet.text for tweet in tweets]
        try:
            return tweets, {one.spec.fingerprint: one.encode(texts) for one in encoders}
        except NotFinite as error:
            bad = set(error.texts)
            on_rejects(
                tweets[n].rejected("its vector is not finite, in float32 too") for n in sorted(bad)
            )
            tweets = [tweet for n, tweet in enumerate(tweets) if n not in bad]


def score_stores(head: Head, stores: Joined) -> Iterator[Scores]:
    """Score cached vectors, block by block."""
    sources = stores.like(head.sources)
    names: list[str | None] = [*stores.label_names, None]
    start = 0
    for block in stores.blocks(sources, np.float32):
        rows = slice(start, start + len(block))
        yield Scores(
            stores.ids(rows),
            None,
            [names[code] for code in stores.codes[rows]],
            head.predict_proba(block),
        )
        start = rows.stop


def is_store(path: str | Path) -> bool:
    """Whether an input is cached vectors rather than tweets: by its name, or by how it begins."""
    path = Path(path)
    if path.suffix in (".h5", ".hdf5") or path.is_dir():
        return True
    with suppress(OSError, ValueError):  # what can't be read is said by who reads it
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(SIGNATURE)) == SIGNATURE
    return False


@contextmanager
def scored(
    head: Head,
    inputs: Sequence[str | Path],
    *,
    rejects: RejectLog,
    models: Sequence[str | Path] = (),
    device: str = "auto",
    backend: str = "auto",
    max_batch_tokens: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    labels: str | Path | None = None,
    mapping: str | Path | None = None,
    require_labels: bool = False,
    on_matching: Callable[[Matching], None] = lambda matching: None,
) -> Iterator[Iterator[Scores]]:
    """Open tweets or cached vectors for scoring; the options are those of `TweetReader`.

    `on_matching` is told what came of joining the stores of several encoders.
    """
    if any(is_store(path) for path in inputs):
        if len(inputs) > 1 and not all(is_store(path) for path in inputs):
            raise InputError("tweets and cached vectors can't be scored together; give one kind")
        with open_joined(inputs) as stores:
            if stores.matching is not None:
                on_matching(stores.matching)
            yield score_stores(head, stores)
        return
    reader = TweetReader(
        inputs,
        text_column=text_column,
        label_column=label_column,
        id_column=id_column,
        labels=labels,
        mapping=mapping,
        require_labels=require_labels,
    )
    encoders = encoders_for(
        head, models=models, device=device, backend=backend, max_batch_tokens=max_batch_tokens
    )
    yield _settling(score_tweets(head, reader, encoders, on_rejects=rejects.add), rejects)


def _settling(scores: Iterator[Scores], rejects: RejectLog) -> Iterator[Scores]:
    """All scores; what was rejected is on the disk when they end, which is before they have their name."""
    yield from scores
    rejects.settle()


@dataclass(frozen=True)
class Written:
    """What went to the output: rows by predicted label, and the first rows for a look."""

    counts: dict[str, int]
    first: list[dict[str, Any]]

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def write_scores(
    head: Head,
    scores: Iterable[Scores],
    output: str | Path,
    *,
    with_text: bool = False,
    excel_safe: bool = False,
    stdout: TextIO | None = None,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write scores as CSV, TSV or JSON Lines.

    Parameters
    ----------
    head : Head
        Names the columns: `id`, `text` if asked for, `label`, and `p_<label>` for each class.
    scores : iterable of Scores
    output : path
        `.csv`, `.tsv` or `.jsonl`; it appears by rename when all is written. `-`: JSON Lines on
        `stdout`, brought out after each block.
    with_text : bool
        Whether the texts come along.
    excel_safe : bool
        Whether cells of `.csv` and `.tsv` that a spreadsheet would take for a formula get a `'`
        before them.
    progress : callable, optional
        Called after each block with the number of rows so far.
    """
    suffix = check_output(output, excel_safe=excel_safe)
    columns = ["id", *(["text"] if with_text else []), "label", *(f"p_{n}" for n in head.labels)]
    counts = dict.fromkeys(head.labels, 0)
    first: list[dict[str, Any]] = []
    with _opened(output, stdout) as file:
        write = _WRITERS[suffix](file, columns)
        for block in scores:
            if with_text and block.texts is None:
                raise InputError("--with-text: cached vectors come without their texts")
            rows = list(_rows(head, block, with_text))
            write([_without_formulas(row) for row in rows] if excel_safe else rows)
            file.flush()
            first.extend(rows[: 5 - len(first)])
            for row in rows:
                counts[row["label"]] += 1
            if progress is not None:
                progress(sum(counts.values()))
        if not sum(counts.values()):
            raise InputError("no usable tweet in the input; the output is as it was")
    return Written(counts, first)


def check_output(output: str | Path, *, excel_safe: bool = False) -> str:
    """Give the format of an output by its name, or say why it can't be one."""
    suffix = ".jsonl" if str(output) == "-" else Path(output).suffix.lower()
    if suffix not in _WRITERS:
        raise InputError(
            f"{output}: unknown format; the name must end in one of {', '.join(_WRITERS)}, or be - for "
            "JSON Lines on standard output"
        )
    if excel_safe and suffix == ".jsonl":
        raise InputError(
            f"--excel-safe is for .csv and .tsv, not for {output}: JSON has no formulas"
        )
    if not Path(output).parent.is_dir():
        raise InputError(
            f"{output}: the folder {Path(output).parent} does not exist; make it first"
        )
    return suffix


def _without_formulas(row: dict[str, Any]) -> dict[str, Any]:
    """Make texts of the cells that a spreadsheet would run (OWASP's list, and their full-width twins)."""
    return {
        name: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULAS) else cell
        for name, cell in row.items()
    }


def _rows(head: Head, block: Scores, with_text: bool) -> Iterator[dict[str, Any]]:
    texts: Sequence[str] = block.texts or [""] * len(block.ids)
    # Six digits: more than half precision carries. The label is the argmax of what is printed.
    proba = block.proba.round(6)
    for identity, text, winner, row in zip(
        block.ids, texts, proba.argmax(axis=1), proba.tolist(), strict=True
    ):
        cells = {"id": identity} | ({"text": text} if with_text else {})
        cells["label"] = head.labels[winner]
        yield cells | {f"p_{name}": p for name, p in zip(head.labels, row, strict=True)}


@contextmanager
def _opened(output: str | Path, stdout: TextIO | None) -> Iterator[TextIO]:
    """Open standard output, or a file beside `output` that takes its name at the end."""
    if str(output) == "-":
        if stdout is None:
            raise InputError("standard output is closed; give the name of a file with -o")
        yield stdout
        return
    with (
        replacing(Path(output)) as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file


_Writer = Callable[[list[dict[str, Any]]], None]


def _csv_writer(file: TextIO, columns: list[str], delimiter: str = ",") -> _Writer:
    def writer(quoting: Literal[0, 1]) -> csv.DictWriter[str]:
        return csv.DictWriter(
            file, columns, delimiter=delimiter, lineterminator="\n", quoting=quoting
        )

    plain, quoted = writer(csv.QUOTE_MINIMAL), writer(csv.QUOTE_ALL)
    plain.writeheader()

    def write(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            # Before Python 3.13 a carriage return alone was not reason enough for quotes.
            odd = any("\r" in cell for cell in row.values() if isinstance(cell, str))
            (quoted if odd else plain).writerow(row)

    return write


def _tsv_writer(file: TextIO, columns: list[str]) -> _Writer:
    return _csv_writer(file, columns, "\t")


def _jsonl_writer(file: TextIO, columns: list[str]) -> _Writer:
    def write(rows: list[dict[str, Any]]) -> None:
        # On a terminal raw control characters would run; inside JSON their escapes mean the same.
        file.writelines(printable(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)

    return write


_WRITERS = {".csv": _csv_writer, ".tsv": _tsv_writer, ".jsonl": _jsonl_writer}


def evaluate(head: Head, scores: Iterable[Scores], *, seed: int = 0) -> tuple[Metrics, int]:
    """Measure a head on scored rows that have labels, under the prior that it answers for.

    Returns
    -------
    metrics : Metrics
    unlabelled : int
        Rows that were left out because they have no label.

    Raises
    ------
    InputError
        No row has a label, or one has a label that the head does not know.
    """
    codes: list[int] = []
    proba: list[npt.NDArray[np.float64]] = []
    unlabelled = 0
    for block in scores:
        labelled = [i for i, label in enumerate(block.labels) if label is not None]
        unlabelled += len(block.labels) - len(labelled)
        for i in labelled:
            if block.labels[i] not in head.labels:
                raise InputError(
                    f"label {block.labels[i]!r} of row {block.ids[i]!r} is none of the head's: "
                    f"{', '.join(head.labels)}; give a --mapping, or fit a head on these labels"
                )
            codes.append(head.labels.index(str(block.labels[i])))
        proba.append(block.proba[labelled])
    if not codes:
        raise InputError("no row has a label to measure on; name the column with --label-column")
    y = np.array(codes)
    weight = None if head.prior is None else importance(y, head.prior)
    metrics = measure(y, np.concatenate(proba), head.labels, seed=seed, weight=weight)
    return metrics, unlabelled
