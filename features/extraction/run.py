"""Run stage one on one screen: read → normalise → encode what is new → write.

In come files of tweets, out goes a feature file (`features/store/format.py`), or a folder of
shards, and a summary, timed part by part. What is encoded (`features/extraction/encoding.py`) is in
the journal at once (`features/extraction/journal.py`), so a run that was stopped, however that
came, goes on where it was and ends in the same bytes: batches depend on the input and the encoder
alone, and those that the journal has are skipped. Parsing of options and printing are the command
line's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from features.base.read_ahead import read_ahead
from features.errors import InputError
from features.extraction.encoding import Encoding, Given, NothingGiven, worker_thread
from features.extraction.output import Output, Request, open_output
from features.extraction.summary import Done, Progress, ProgressMeter
from features.extraction.timing import clock
from features.extraction.windows import WINDOW, announced, read_windows, with_tweets
from features.spec.normalize import normalizer
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder


@dataclass(frozen=True)
class Told:
    """The ones who are told how a run goes.

    Attributes
    ----------
    progress : callable, optional
        Called after each batch.
    say : callable
        Called with what the user should know at once, a line each.
    on_input : callable
        Called with a line for each input that says how it is read.
    """

    progress: Callable[[Progress], None] | None = None
    say: Callable[[str], None] = lambda line: None
    on_input: Callable[[str], None] = lambda line: None


def run(
    reader: TweetReader,
    request: Request,
    rejects: RejectLog,
    load: Callable[[Output], FrozenEncoder],
    *,
    told: Told,
    seconds: dict[str, float],
    window_rows: int = WINDOW,
    given: Given = NothingGiven(),  # noqa: B008 - it holds nothing
) -> Done:
    """Encode the tweets of a reader once, and write the output that is asked for.

    Parameters
    ----------
    reader : TweetReader
    request : Request
        The output, and what its vectors are to be.
    rejects : RejectLog
        Of the output; opened here, once nobody else is at it.
    load : callable
        Gives the encoder, for the output at work; called once, and only if a text is new.
    told : Told
    seconds : dict
        Times, part by part, see `no_seconds`.
    window_rows : int
        Rows that are sorted by length and encoded together.
    given : Given
        Texts that were encoded elsewhere.

    Raises
    ------
    InputError, FileRefused, CannotContinue
    """
    with ExitStack() as stack:
        target = stack.enter_context(open_output(request, told.say))
        stack.enter_context(rejects)
        meter = ProgressMeter(told.progress, reader, rejects, lambda: target.rows)
        # One window is read and the next one tokenised while a third is in the model, and what
        # comes out of it is written behind; but a shard is finished before anything of the next one
        # begins.
        normalise = normalizer(request.vectors.spec.normalizer)
        windows = read_windows(reader, normalise, seconds, request.shard_rows, window_rows)
        ahead = stack.enter_context(closing(read_ahead(windows, 1)))
        worker = stack.enter_context(worker_thread(meter.stopped))
        encoded = Encoding(
            partial(load, target),
            target.journal,
            request.vectors.store_dtype,
            worker,
            seconds,
            meter.report,
            given,
        )
        openings = announced(ahead, reader.findings, told.on_input)
        for _, of_shard in groupby(with_tweets(openings, rejects), key=attrgetter("shard")):
            if not target.begun:
                target.begin(encoded)
            else:
                with clock(seconds, "write"):
                    target.next_shard(reader.label_order)
            for window, new in encoded.through(of_shard, target.builder):
                with clock(seconds, "write"):
                    if new is not None:
                        target.add_texts(new)
                    usable = window.without(encoded.unusable)
                    rejects.add(usable.rejects)
                    target.add_rows(usable)
                meter.report()
        _finish(target, reader, rejects, told.say, seconds)
        unique = target.builder.n_unique()
        target.journal.remove()
        return Done(target.outcome(), unique, encoded)


def _finish(
    target: Output,
    reader: TweetReader,
    rejects: RejectLog,
    say: Callable[[str], None],
    seconds: dict[str, float],
) -> None:
    """Say what there is to say of all rows, and let the output take its name."""
    of_piece = target.request.of_piece
    if not target.begun and not of_piece:
        raise InputError(f"no usable tweet in {reader}{rejects.hint()}")
    if not of_piece:
        for line in rejects.closing_remarks(reader):
            say(line)
    with clock(seconds, "write"):
        rejects.settle()
        if target.rows or not of_piece:
            target.finish(reader.label_order, last=True)
