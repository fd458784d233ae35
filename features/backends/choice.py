"""Record what runs a model, as the user or a measurement decided it: names and rates. No torch.

A `Candidate` is one way to run a model; a `Choice` is the one that was taken, with what was
measured to take it (`features/backends/trial.py`). Both only change how fast vectors come, never
what they mean beyond the rounding of their precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# How torch computes linear layers: laid out for oneDNN once and fused, or as torch does by itself.
PREPACKED, PLAIN = "prepacked", "plain"
# How torch attends within texts on the CPU, where it is not by its fused kernel; beside 8-bit
# products, both are in half precision.
BY_PRODUCTS, IN_HALF = "products", "half"
HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Candidate:
    """A way to run a model.

    Attributes
    ----------
    backend : str
        A row of `features.backends.registry.BACKENDS`.
    dtype : str
        `float32`, `bfloat16`, `float16` or `int8`.
    kernels : str
        Of torch: `prepacked` or `plain`; empty for other backends.
    attention : str
        Of torch: `products` where it was measured to be faster; empty for its fused kernel. Beside
        8-bit products these are in half precision and in float32, and `half` is the fused kernel in
        half precision.
    """

    backend: str
    dtype: str
    kernels: str = ""
    attention: str = ""

    def __str__(self) -> str:
        return f"{self.backend} {self.dtype}" + (f" {PLAIN}" if self.kernels == PLAIN else "")

    def is_of(self, allowed: Iterable[Candidate]) -> bool:
        """Tell whether it is one of these, however it attends."""
        return dataclasses.replace(self, attention="") in allowed

    @property
    def precision(self) -> str:
        """`float32`, `half` or `int8`: a store holds vectors of one of them, never two."""
        return "half" if self.dtype in HALF else self.dtype


@dataclass(frozen=True)
class Choice:
    """The way that was taken, and why.

    Attributes
    ----------
    candidate : Candidate
    max_batch_tokens : int
        Tokens in a batch.
    streams : int
        Batches that are run at a time.
    rates : mapping of str to float
        Texts a second on the probe, by candidate; empty where nothing was measured.
    left_out : mapping of str to str
        Candidates that were not measured to the end, each with its reason.
    remembered : bool
        Whether the rates are those of an earlier run.
    """

    candidate: Candidate
    max_batch_tokens: int
    streams: int
    rates: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    remembered: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types, always in the same order; without whether it is remembered."""
        content = dataclasses.asdict(self)
        del content["remembered"]
        for name in ("rates", "left_out"):
            content[name] = dict(sorted(content[name].items()))
        return content

    @property
    def decided(self) -> Choice:
        """What was taken alone, without what was measured: equal wherever the same was taken."""
        return Choice(self.candidate, self.max_batch_tokens, self.streams)

    @classmethod
    def from_dict(cls, content: Any, *, remembered: bool = False) -> Choice:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            It is something else.
        """
        try:
            candidate = Candidate(**content["candidate"])
            rates = {str(name): float(rate) for name, rate in content["rates"].items()}
            left_out = {str(name): str(reason) for name, reason in content["left_out"].items()}
            numbers = (content["max_batch_tokens"], content["streams"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a choice: {error}") from error
        if not all(isinstance(part, str) for part in vars(candidate).values()):
            raise ValueError("not a choice: its candidate is not named")
        if candidate.attention not in ("", BY_PRODUCTS, IN_HALF):
            raise ValueError(f"not a choice: it attends by {candidate.attention!r}")
        if not all(type(n) is int and 0 < n < 2**31 for n in numbers):
            raise ValueError(f"not a choice: it says {numbers}")
        return cls(candidate, *numbers, rates, left_out, remembered)

    def summary(self) -> str:
        """Give it in a line: what was taken, and the rates of the others, the fastest first."""
        if not self.rates:
            return str(self.candidate)
        taken = str(self.candidate)
        rate = self.rates.get(taken)
        ours = taken if rate is None else f"{taken}, {rate:,.0f} tweets/s on the probe"
        others = sorted(self.rates.items(), key=lambda item: -item[1])
        line = "; ".join([ours, *(f"{n} {r:,.0f}" for n, r in others if n != taken)])
        return line + (" (remembered)" if self.remembered else "")


@dataclass(frozen=True)
class Runtime:
    """The settings of how a model is run, as far as the user or an earlier run decided them.

    Attributes
    ----------
    dtype, device, backend : str
        As for `FrozenEncoder`; `auto` where it is to be decided here.
    max_batch_tokens : int, optional
    precision : str, optional
        `float32` or `half`, where vectors are added to some of that precision.
    begun : Choice, optional
        That of an interrupted run, which goes on as it was begun where that is still to be had.
    one_core : bool
        Whether each batch is computed on one core of the CPU, and what runs the model is measured
        there: so neither the choice nor a bit of a vector depends on how many cores there are.
    """

    dtype: str = "auto"
    device: str = "auto"
    backend: str = "auto"
    max_batch_tokens: int | None = None
    precision: str | None = None
    begun: Choice | None = None
    one_core: bool = False
