"""Score the tweets of a frame: a frame in, a frame of the same kind out, row by row.

The rows are read by the rules of files (`features/tweets/rows/frame.py`) and scored as `predict`
scores files. What comes out has as many rows as what went in: one that can't be used has no label
and the reason. Nothing is written to files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.backends.choice import Runtime
from features.errors import InputError, judged_rejects
from features.tweets.columns import Columns
from features.tweets.reader import Reject, TweetReader
from features.tweets.rows.frame import Frames, frames_in, frames_of
from pipeline.head.head import Head, load_head
from pipeline.scoring.estimated_prior import ESTIMATE, for_their_shares
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.novelty import check_can_tell, watched
from pipeline.scoring.predict import encoders_for, score_tweets
from pipeline.scoring.score_columns import Cells, ScoreColumns

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

    from features.encoder.encoder import FrozenEncoder

    Frame = nw.DataFrame[Any]

# The last column: why a row can't be used, and nothing where it is.
_REJECT = "reject"


def predict(
    head: Head | str | Path,
    frame: Any,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    novelty: bool = False,
    prior: str | None = None,
    models: Sequence[str | Path] = (),
    device: str = "auto",
    backend: str = "auto",
    max_batch_tokens: int | None = None,
    encoders: Sequence[FrozenEncoder] | None = None,
    strict: bool = False,
    allow_rejects: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Any:
    """Label the tweets of a frame.

    Parameters
    ----------
    head : Head or path
    frame : frame or series of pandas, polars, Arrow and others, a stream of Arrow, or an iterator
        of frames. Columns are found as in files, see `Columns`.
    text_column, label_column, id_column : str, optional
        As for `extract`. Labels that are there are checked as in files, and not used.
    novelty : bool
        Whether the distances to the training tweets are wanted.
    prior : str, optional
        The shares of the classes to answer for: as for `fit`, or `estimate`, from all these rows,
        which are held for it. Default: as the head says.
    models, device, backend, max_batch_tokens
        See `encoders_for`.
    encoders : sequence of FrozenEncoder, optional
        Those of the head, by `encoders_for`, where many frames are scored one by one; default: they
        are loaded.
    strict : bool
        Stop at the first row that can't be used.
    allow_rejects : bool
        Go on where more than a fifth of the rows can't be used.
    say : callable
        Told what there is to say about the rows, a line each.

    Returns
    -------
    frame
        Of the same kind, with the index of pandas, and a row for each row: `id`, `label`,
        `p_<label>` for each class, `novelty` if asked for, `flags`, and `reject`, the reason why
        a row can't be used, whose other cells are missing then. A lazy frame of polars gives one;
        a stream of Arrow gives a `pyarrow.RecordBatchReader`, an iterator of frames an iterator,
        which score what comes as it is read.

    Raises
    ------
    InputError
        It is no frame of tweets, or more than a fifth of its rows can't be used.

    Examples
    --------
    >>> import pandas as pd
    >>> from features import extract
    >>> from pipeline import fit, predict
    >>> summary = extract(pd.read_csv("examples/tweets.csv"), "tweets.h5", pooling="mean")
    >>> frame = pd.DataFrame({"text": ["what a lovely day", "so sad"]}, index=["x", "y"])
    >>> scores = predict(fit("tweets.h5", C=0.01).head, frame)
    >>> list(scores.index), list(scores.columns)[:3]
    (['x', 'y'], ['id', 'label', 'p_negative'])
    """
    head = head if isinstance(head, Head) else load_head(head)
    if prior not in (None, ESTIMATE):
        head = head.with_prior(prior)
    if novelty:
        check_can_tell(head)
    frames, finish = _opened(frame)
    results = _Results(ScoreColumns.of(head, with_novelty=novelty), strict=strict)
    read = replace(frames, each=lambda: results.noting(frames.each()))
    reader = TweetReader(read.source(), Columns(text_column, label_column, id_column))
    runtime = Runtime(device=device, backend=backend, max_batch_tokens=max_batch_tokens)

    def scored() -> Iterator[Any]:
        found = encoders or encoders_for(head, models=models, runtime=runtime, say=say)
        scores = score_tweets(head, reader, found, on_rejects=results.add_rejects)
        scores = watched(scores, warn=say)
        if prior == ESTIMATE:
            scores = for_their_shares(head, scores, tell=lambda shift: None)
        for block in scores:
            results.add(block)
            yield from results.complete()
        yield from results.complete()
        for line in results.closing_remarks(reader, allow_rejects):
            say(line)

    return finish(scored(), results.columns)


def _opened(given: Any) -> tuple[Frames, Callable[[Iterator[Frame], ScoreColumns], Any]]:
    """Give the frames to score, and what makes the result of theirs."""
    import narwhals.stable.v2 as nw

    if isinstance(given, Iterator) and not hasattr(given, "__arrow_c_stream__"):
        frames, _ = frames_in(given)
        if frames is not None:
            return frames, lambda scored, columns: (nw.to_native(one) for one in scored)
    frames = frames_of(given)
    if frames is None:
        raise InputError(
            f"predict takes a frame of pandas, polars or Arrow, not a {type(given).__name__}: make "
            "it one, such as pandas.DataFrame(rows); files are for `frostline predict`"
        )
    if frames.n_rows is not None:
        return frames, lambda scored, columns: nw.to_native(_whole(scored))
    if hasattr(given, "__arrow_c_stream__"):
        return frames, _as_stream
    return frames, lambda scored, columns: nw.to_native(_whole(scored).lazy())


def _whole(scored: Iterator[Frame]) -> Frame:
    import narwhals.stable.v2 as nw

    found = list(scored)
    return found[0] if len(found) == 1 else nw.concat(found)


def _as_stream(scored: Iterator[Frame], columns: ScoreColumns) -> Any:
    import pyarrow as pa

    fields = [(name, pa.float64() if one else pa.string()) for name, one in _types(columns).items()]
    schema = pa.schema(fields)
    batches = (batch for frame in scored for batch in frame.to_arrow().cast(schema).to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)


def _types(columns: ScoreColumns) -> dict[str, bool]:
    """Say of each column whether it holds numbers, or else texts."""
    return {name: name in columns.numbers for name in (*columns.names, _REJECT)}


def _frame_of(cells: Cells, numbers: dict[str, bool], library: Any) -> Frame:
    """Make a frame of a library of columns of texts and numbers."""
    import narwhals.stable.v2 as nw

    if not library.is_pandas_like():
        types = {name: nw.Float64 if one else nw.String for name, one in numbers.items()}
        return nw.from_dict(cells, types, backend=library)
    # Asked for text, pandas before version 3 would make the text "None" of what is missing; so it
    # finds the types itself, by a row more.
    more = {name: [*column, 0.0 if numbers[name] else ""] for name, column in cells.items()}
    return nw.from_dict(more, backend=library).head(len(cells[_REJECT]))


@dataclass
class _Results:
    """Scores and rejects as they come, and the frames whose rows they are, in order.

    Attributes
    ----------
    columns : ScoreColumns
    strict : bool
        Whether the first reject is an error.
    """

    columns: ScoreColumns
    strict: bool
    _pending: deque[tuple[int, Frame]] = field(default_factory=deque)
    _rows: int = 0  # of all frames so far
    _blocks: deque[Cells] = field(default_factory=deque)
    _ready: int = 0  # rows in them
    _rejects: dict[int, str] = field(default_factory=dict)
    _n_rejects: int = 0
    _first: Reject | None = None

    def noting(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Hand frames to the reader, and keep them until their rows are scored."""
        for frame in frames:
            self._pending.append((self._rows, frame))
            self._rows += len(frame)
            yield frame

    def add_rejects(self, rejects: Iterable[Reject]) -> None:
        """Take rejects; those of a row come before the scores of later ones."""
        for reject in rejects:
            if self.strict:
                raise InputError(f"{reject.source}, row {reject.line}: {reject.reason} (`strict`)")
            self._first = self._first or reject
            self._rejects[reject.line] = reject.reason
            self._n_rejects += 1

    def add(self, block: Scores) -> None:
        """Take scores."""
        self._blocks.append(self.columns.cells(block))
        self._ready += len(block.ids)

    def complete(self) -> Iterator[Frame]:
        """Give the results of the frames whose rows have all come."""
        while self._pending:
            before, frame = self._pending[0]
            reasons = [self._rejects.get(before + n, "") for n in range(1, len(frame) + 1)]
            wanted = reasons.count("")
            if wanted > self._ready:
                return
            self._pending.popleft()
            for line in [before + n for n, reason in enumerate(reasons, 1) if reason]:
                del self._rejects[line]
            yield self._result(frame, self._taken(wanted), reasons)

    def _taken(self, wanted: int) -> Cells:
        """Give the next rows, and forget them."""
        taken: Cells = {name: [] for name in self.columns.names}
        self._ready -= wanted
        while wanted:
            block = self._blocks.popleft()
            size = len(block["id"])
            for name, cells in block.items():
                taken[name] += cells[:wanted]
            if size > wanted:
                self._blocks.appendleft({name: cells[wanted:] for name, cells in block.items()})
            wanted -= min(size, wanted)
        return taken

    def _result(self, frame: Frame, cells: Cells, reasons: list[str]) -> Frame:
        """Give a frame of the kind and the index of the one that was scored."""
        import narwhals.stable.v2 as nw

        if any(reasons):
            each = {name: iter(column) for name, column in cells.items()}
            cells = {
                name: [None if reason else next(column) for reason in reasons]
                for name, column in each.items()
            }
        found = _frame_of(cells | {_REJECT: reasons}, _types(self.columns), frame.implementation)
        index = nw.maybe_get_index(frame)
        if index is None:
            return found
        native = found.to_native()
        native.index = index
        return nw.from_native(native, eager_only=True)

    def closing_remarks(self, reader: TweetReader, allow_rejects: bool) -> Iterator[str]:
        """Give what there is to say once all rows are scored, a line each.

        Raises
        ------
        InputError
            Too many of them were rejected, or all.
        """
        yield from reader.findings.remarks()
        if self._first is None:
            return
        first = f"the first is row {self._first.line}: {self._first.reason}"
        if self._n_rejects == reader.rows_read:
            raise InputError(
                f"no usable tweet in {reader}: all {self._n_rejects:,} rows were rejected, {first}"
            )
        warning = judged_rejects(self._n_rejects, reader.rows_read, first, allowed=allow_rejects)
        if warning is not None:
            yield warning
