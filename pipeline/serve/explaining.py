"""Explain a text by the encoders at work, so that its pieces are batched with all other texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from features.spec.encoder_spec import EncoderSpec
from features.spec.tokenizer import Tokens
from pipeline.explaining.explain import explain
from pipeline.serve.scorer.heads import ServedHead
from pipeline.serve.scorer.scorer import Scorer

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.engine import Matrix


class _SharedEncoder:
    """An encoder of a scorer, called from another thread than the event loop's."""

    def __init__(self, scorer: Scorer, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._scorer, self._number, self._loop = scorer, number, loop

    @property
    def spec(self) -> EncoderSpec:
        return self._scorer.encoders[self._number].spec

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        return self._scorer.encoders[self._number].tokenize(texts)

    def encode(self, texts: Iterable[str]) -> dict[str, Matrix]:
        encoded = self._scorer.encode(list(texts), self._number)
        return asyncio.run_coroutine_threadsafe(encoded, self._loop).result()


async def explanation_of(head: ServedHead, text: str, scorer: Scorer) -> dict[str, Any]:
    """Give what `frostline explain --json` writes of a text; raises as `Scorer.score` does."""
    loop = asyncio.get_running_loop()
    encoders = [
        cast("FrozenEncoder", _SharedEncoder(scorer, number, loop)) for number in head.encoders
    ]
    found = await asyncio.to_thread(explain, head.head, text, encoders)
    return found.to_dict()
