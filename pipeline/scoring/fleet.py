"""Score tweets by the workers of an engine: rows in, scores out, in the order of the rows.

This process reads the rows and hands them out, a window at a time; workers encode and score them.
All of them run the model in the way that one of them has chosen, so what comes out does not depend
on their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from features.backends.choice import Choice, Runtime
from features.engines.engine import Engine
from features.engines.verbs import map_in_order
from features.tweets.reader import Reject, Tweet
from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.predict import encoders_of, places_of, score_window, windows_of

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder


@dataclass(frozen=True)
class ScoreWindows:
    """The work of scoring windows of rows.

    Attributes
    ----------
    head : Head
    models : tuple of str
        See `encoders_of`.
    runtime : Runtime
    folder : Path
        The folder that paths start from where they do not start from the root.
    choices : tuple of Choice
        How each encoder is run; empty where it is to be chosen.
    """

    head: Head
    models: tuple[str, ...]
    runtime: Runtime
    folder: Path
    choices: tuple[Choice, ...] = ()

    @contextmanager
    def open(
        self,
    ) -> Iterator[Callable[[Sequence[Tweet | Reject]], tuple[Scores | None, list[Reject]]]]:
        """Load the encoders, and give what scores a window."""
        yield partial(score_window, self.head, self.encoders(lambda line: None))

    def encoders(self, say: Callable[[str], None]) -> list[FrozenEncoder]:
        """Load the encoders."""
        if self.folder.is_dir():
            os.chdir(self.folder)
        found: list[FrozenEncoder] = []
        places = places_of(self.head.encoders, self.models)
        for number, (sources, place) in enumerate(zip(self.head.encoders, places, strict=True)):
            begun = self.choices[number] if self.choices else None
            found += encoders_of(
                [sources],
                models=() if place is None else [place],
                runtime=replace(self.runtime, begun=begun),
                say=say,
            )
        return found


@dataclass(frozen=True)
class Choose:
    """The work of choosing how the encoders are run, with what there is to say of them."""

    work: ScoreWindows

    @contextmanager
    def open(self) -> Iterator[Callable[[None], tuple[tuple[Choice, ...], list[str]]]]:
        """Give what loads the encoders, and tells their choices."""

        def choose(task: None) -> tuple[tuple[Choice, ...], list[str]]:
            lines: list[str] = []
            return tuple(one.choice for one in self.work.encoders(lines.append)), lines

        yield choose


@dataclass(frozen=True)
class FleetScorer:
    """Scores rows by an engine; to be given to `scored` in place of encoders.

    Attributes
    ----------
    engine : Engine
    work : ScoreWindows
    say : callable
        Told what is odd about a model, a line each.
    on_choice : callable
        Told how each encoder is run.
    """

    engine: Engine
    work: ScoreWindows
    say: Callable[[str], None]
    on_choice: Callable[[Choice], None]

    def __call__(
        self,
        rows: Iterable[Tweet | Reject],
        on_rejects: Callable[[Iterable[Reject]], None],
    ) -> Iterator[Scores]:
        """Score rows, and tell of those that can't be.

        Raises
        ------
        InputError, FileRefused, CannotContinue
        """
        with self.engine.session():
            ((choices, lines),) = map_in_order(self.engine, Choose(self.work), [None])
            for line in lines:
                self.say(line)
            for choice in choices:
                self.on_choice(choice)
            work = replace(self.work, choices=choices)
            with closing(map_in_order(self.engine, work, windows_of(rows))) as results:
                for scores, rejects in results:
                    on_rejects(rejects)
                    if scores is not None:
                        yield scores
