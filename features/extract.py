"""Make vectors of tweets: stage one as people call it, with all that can be asked for.

In come files of tweets and options, out goes a feature file (`features/store/format.py`), or a
folder of shards, and a summary, timed part by part. The work itself is
`features/extraction/run.py`'s; parsing of options and printing are the command line's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from features.backends.choice import Runtime
from features.base.remote import copies
from features.base.remote.urls import is_url
from features.errors import InputError
from features.extraction.disk_space import shortage, vector_bytes
from features.extraction.output import Output, Request, check_output
from features.extraction.run import Told, run
from features.extraction.summary import ExtractSummary, Progress, summarise
from features.extraction.timing import clock, no_seconds
from features.extraction.windows import WINDOW
from features.fleet import check_engine, make_all
from features.pieces.indexes import kept_in
from features.pieces.make_piece import MakePieces
from features.pieces.order import (
    Order,
    agree,
    check_duplicates,
    existing_order,
    make_folders,
    order_of,
)
from features.pieces.part import asked_part, make_part
from features.pieces.piece import Piece
from features.pieces.split import split
from features.spec.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.pooling import DEFAULT_POOLING, SENTENCE, parse_poolings
from features.spec.unused_parts import unused_parts
from features.spec.vector_spec import STORE_DTYPES, VectorSpec, precision_of
from features.store.joined.place import is_in_pieces
from features.tweets.columns import Columns
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog
from features.tweets.rows.inputs import Input, inputs_of, name_of
from features.tweets.table import InputFormat

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.engines.engine import Engine


def extract(
    inputs: Any,
    output: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    pooling: str | Sequence[str] = DEFAULT_POOLING,
    max_length: int | None = None,
    normalize: str = "tweeteval",
    prefix: str = "",
    prompt_name: str | None = None,
    dtype: str = "auto",
    store_dtype: str = "float16",
    device: str = "auto",
    backend: str = "auto",
    max_batch_tokens: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    labels: str | Path | None = None,
    mapping: str | Path | None = None,
    label_case: str = "keep",
    input_format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str = "auto",
    header: bool = True,
    strict: bool = False,
    allow_rejects: bool = False,
    overwrite: bool = False,
    shard_rows: int | None = None,
    part: str | tuple[int, int] | None = None,
    duplicates: str = "piece",
    memory: int | None = None,
    engine: Engine | None = None,
    window_rows: int = WINDOW,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_input: Callable[[str], None] = lambda line: None,
) -> ExtractSummary:
    """Encode tweets once, and cache their vectors in an HDF5 file, or in a folder of them.

    If `output` is there already and of the same encoder, its vectors are used: with the same input
    nothing is done, with a longer one only new texts are encoded. A run that was interrupted or
    killed goes on where it was, if it is called again in the same way.

    Parameters
    ----------
    inputs : path, frame or data set, or a sequence of these
        Files; frames or series of pandas, polars, Arrow and others, streams of Arrow, iterators of
        frames; a `Dataset` or `IterableDataset` of Hugging Face. See `inputs_of`.
    output : path
        The feature file, or the folder of its shards.
    model, revision, pooling, max_length, normalize, prefix, prompt_name
        What vectors mean, see `FrozenEncoder`.
    dtype, device, backend, max_batch_tokens
        How they are made, see `FrozenEncoder`.
    store_dtype : str
        `float16` or `float32`, for vectors on disk.
    text_column, label_column, id_column, labels, mapping, label_case
        Where text, labels and ids are, see `Columns`.
    input_format, encoding, delimiter, quoting, header
        How the input is written, see `InputFormat`.
    strict : bool
        Stop at the first row that can't be used, instead of writing it to `<output>.rejects.jsonl`.
    allow_rejects : bool
        Go on where more than a fifth of the rows can't be used.
    overwrite : bool
        Replace `output`, whatever is there; of a folder, the shards. A run that does so goes on
        where it was, too.
    shard_rows : int, optional
        Write a folder of files of so many rows at most, `part-00000.h5`..., each finished by
        itself.
    part : str or (int, int), optional
        `"i/n"`: make the pieces p of the input with p % n == i % n and leave the others to other
        jobs, which can run at the same time, on other machines and in any order; the last one to
        finish joins the store. Needs `shard_rows`, of which a piece has about as many. Gives a
        `PartSummary`.
    duplicates : str
        With `part` or `engine`, within what a text is encoded once: `piece`, or `all` pieces, for
        which each piece is read three times; worth it where a large model meets many texts again.
    memory : int, optional
        With `duplicates="all"`, bytes in which the texts of all pieces are compared, part by part;
        default: 512 MiB. More means fewer parts, and so fewer reads.
    engine : Engine, optional
        Make all pieces by the workers of an engine, such as `LocalEngine(2)` of
        `features/engines/local.py`, and join the store, which has the same bytes as one that was
        made in parts. Needs `shard_rows`. Gives a `PartSummary`, too.
    window_rows : int
        Rows that are read, sorted by length and encoded together: changes the batches and the
        memory, not what the vectors mean.
    progress : callable, optional
        Called after each batch.
    say : callable, optional
        Called with what the user should know at once, a line each.
    on_input : callable, optional
        Called with a line for each input that says how it is read, before its first tweet is
        encoded.

    Raises
    ------
    InputError, FileRefused, CannotContinue

    Examples
    --------
    >>> from features import extract
    >>> summary = extract("examples/tweets.csv", "tweets.h5", pooling=["cls", "mean"])
    >>> summary.rows, summary.views
    (956, {'cls': 384, 'mean': 384})
    """
    started = perf_counter()
    seconds = no_seconds()
    views = [view.name for view in parse_poolings(pooling)]
    if store_dtype not in STORE_DTYPES:
        raise InputError(f"unknown store dtype {store_dtype!r}: choose {' or '.join(STORE_DTYPES)}")
    check_engine(engine, shard_rows, device, part=part, overwrite=overwrite)
    one_of = asked_part(part, shard_rows, overwrite=overwrite)
    in_pieces = part is not None or engine is not None
    memory = check_duplicates(duplicates, memory, in_pieces=in_pieces)
    columns = Columns(text_column, label_column, id_column, labels, mapping, label_case)
    written = InputFormat(input_format, encoding, delimiter, quoting, header)
    sources = inputs_of(inputs)
    reader = TweetReader(sources, columns, written=written)
    path = copies.output(output)
    check_output(path, shard_rows, [*reader.files, *columns.files])
    with clock(seconds, "load"):
        checkpoint = find_checkpoint(model, revision=revision)
        quantize = "int8" if dtype == "int8" else "none"
        spec = make_spec(
            checkpoint,
            max_length=max_length,
            normalize=normalize,
            quantize=quantize,
            prefix=prefix,
            prompt_name=prompt_name,
            sentence=SENTENCE in views,
        )
    vectors = VectorSpec(spec, dict.fromkeys(views, 0), precision_of(dtype), store_dtype)
    runtime = Runtime(dtype, device, backend, max_batch_tokens)
    told = Told(progress, say, on_input)
    if one_of is not None or engine is not None:
        assert shard_rows is not None, "`asked_part` and `check_engine` have seen to that"
        order = order_of(
            sources, shard_rows, vectors, runtime, columns, written, window_rows, duplicates
        )
        there, pieces = _agreed(output, order, sources, columns, written, say)
        work = MakePieces(
            output, there, str(model), revision, runtime, columns, written, strict, memory
        )
        if one_of is None:
            assert engine is not None, "it is one of the two"
            return make_all(engine, work, pieces, told, allow_rejects=allow_rejects)
        return make_part(work, pieces, one_of, told, allow_rejects=allow_rejects)
    if is_in_pieces(output):
        raise InputError(f"{output} is made in pieces: give `part`, or another `output`")
    copies.bring_output(path)
    names = [name_of(one) for one in sources]
    request = Request(path, vectors, dtype, names, shard_rows, overwrite)
    rejects = RejectLog(request.path, strict=strict, allowed=allow_rejects)
    load = partial(_load_encoder, checkpoint, runtime, reader, say)
    done = run(reader, request, rejects, load, told=told, seconds=seconds, window_rows=window_rows)
    summary = summarise(path, done, reader, rejects, seconds)
    with clock(seconds, "write"):
        copies.send(path)
    seconds["total"] = perf_counter() - started
    return replace(summary, output=output) if is_url(output) else summary


def _agreed(
    output: str | Path,
    order: Order,
    sources: Sequence[Input],
    columns: Columns,
    written: InputFormat,
    say: Callable[[str], None],
) -> tuple[Order, Sequence[Piece]]:
    """Cut the input into pieces, and give the order that all who make the store agree on."""
    existing_order(output, order)  # before a large file is looked at
    index_of = kept_in(output, partial(make_folders, output), say)
    pieces = split(
        sources,
        shard_rows=order.shard_rows,
        columns=columns,
        written=written,
        index_of=index_of,
        say=say,
    )
    return agree(output, order.with_pieces(pieces)), pieces


def _load_encoder(
    checkpoint: Checkpoint,
    runtime: Runtime,
    reader: TweetReader,
    say: Callable[[str], None],
    target: Output,
) -> FrozenEncoder:
    """Load the encoder as an interrupted run had it, and say what there is to say of it.

    Before it is loaded, that is whether the disk is too small.
    """
    from features.encoder.encoder import FrozenEncoder  # numpy and more: only where it is needed

    request = target.request
    views = list(request.vectors.views)
    warning = shortage(
        request.path.parent,
        rows_read=reader.rows_read,
        fraction_read=reader.fraction_read(),
        vector_bytes=vector_bytes(checkpoint, views, request.vectors.store_dtype),
        shard_rows=request.shard_rows,
        existing_bytes=target.existing_bytes(),
    )
    if warning is not None:
        say(warning)
    header = target.journal.header
    begun = None if header is None else header.choice
    runtime = replace(runtime, dtype=request.dtype, precision=target.precision, begun=begun)
    encoder = FrozenEncoder.from_spec(
        request.vectors.spec, lambda: checkpoint, pooling=views, runtime=runtime
    )
    for line in filter(None, [unused_parts(checkpoint, encoder.spec), encoder.remark]):
        say(line)
    by_hand = runtime.backend != "auto"
    if begun is not None and not by_hand and begun.candidate != encoder.choice.candidate:
        say(
            f"the interrupted run was begun with {begun.candidate}, which is not to be had here "
            f"now; it goes on with {encoder.choice.candidate}, and what it has encoded is kept"
        )
    return encoder
