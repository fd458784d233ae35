"""Measure how fast this machine multiplies matrices, by precision and kernel, in bounded time.

In go the columns of a linear layer, out comes a rate in 1e9 operations a second (two for each
weight and row). A library may hold a reference kernel that is thousands of times slower than its
neighbour behind the same call, so sizes grow from a few rows of a few columns on, and end where the
next one would take too long. Does not: run models (`features/backends/trial.py`), or know
processors by their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch.nn import functional

from features.backends.choice import PLAIN, PREPACKED
from features.backends.eager.int8_ranges import ZERO
from features.backends.eager.packed_attention import Attend, attend_by_products, attend_fused
from features.backends.streams import one_core

# Rows and share of the columns of what is multiplied, one after the other.
_STEPS = ((16, 0.125), (64, 0.5), (256, 1.0))
# No step is begun that would take longer, and no repeat beyond it. The quickest of the repeats is
# the least disturbed.
_SECONDS = 0.02
_REPEATS = 4
# Texts, and tokens of each, on which attention is timed; it takes so little that each time that
# another process had the core between shows, so that more are taken.
_ATTENTION, _ATTENTION_REPEATS = (32, 32), 12
# A reference kernel is hundreds of times slower on the same tiny product.
_STANDING_STILL = 20
# Another way to attend must be so much faster to be taken: it rounds more.
_CLEARLY = 1.1
# Rows of extreme integers, whose sums of two products do not fit in 16 bits.
_EXTREMES = (255, 127)

# A product on one core is computed by the thread that asks for it, whose own time does not run
# while others have the core; some systems count it too coarsely.
_FINE = time.get_clock_info("thread_time").resolution < 1e-5
_now = time.thread_time if _FINE else time.perf_counter

# From rows, columns in and columns out to a product that is ready to be computed.
MakeProduct = Callable[[int, int, int], Callable[[], object]]


def _plain(dtype: torch.dtype) -> MakeProduct:
    def make(rows: int, inputs: int, outputs: int) -> Callable[[], object]:
        x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
        return lambda: functional.linear(x, weight)

    return make


def _prepacked(dtype: torch.dtype) -> MakeProduct:
    from features.backends.eager.fused_layers import PrepackedLinear

    def make(rows: int, inputs: int, outputs: int) -> Callable[[], object]:
        x = torch.ones(rows, inputs, dtype=dtype)
        layer = PrepackedLinear(torch.ones(outputs, inputs, dtype=dtype), None)
        return lambda: layer(x)

    return make


def _int8(rows: int, inputs: int, outputs: int) -> Callable[[], object]:
    x = torch.full((rows, inputs), 200, dtype=torch.uint8)
    return _int8_product(x, torch.ones(outputs, inputs, dtype=torch.int8))


def _int8_product(
    x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], torch.Tensor]:
    """Make the product of `features/backends/eager/int8.py`: unsigned by signed bytes."""
    prepacked = torch.ops.onednn.qlinear_prepack(weight, None)
    steps, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int32)

    def product() -> torch.Tensor:
        found: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, ZERO, prepacked, steps, zeros, None, 1.0, 0, dtype, "none", [], ""
        )
        return found

    return product


def rate(dtype: torch.dtype, kernels: str, inputs: int, outputs: int) -> float:
    """Measure the product of a linear layer.

    Parameters
    ----------
    dtype : dtype
        `int8` for unsigned by signed 8-bit integers.
    kernels : str
        `prepacked` or `plain`; of no meaning for int8.
    inputs, outputs : int
        Columns of the layer.

    Returns
    -------
    float
        1e9 operations a second on one core, as streams run; 0 where there is no such product. On
        one thread, because several wait for each other, and for whatever else the machine does.
    """
    with one_core():
        return _rate(dtype, kernels, inputs, outputs)


def _rate(dtype: torch.dtype, kernels: str, inputs: int, outputs: int) -> float:
    if dtype == torch.int8:
        make: MakeProduct = _int8
    else:
        make = {PREPACKED: _prepacked, PLAIN: _plain}[kernels](dtype)
    found = 0.0
    for rows, share in _STEPS:
        columns = [max(16, int(n * share) // 16 * 16) for n in (inputs, outputs)]
        operations = 2 * rows * columns[0] * columns[1]
        if found and operations / found / 1e9 > _SECONDS:
            break
        try:
            product = make(rows, *columns)
            product()  # kernels are generated when they are first needed
        except (AttributeError, RuntimeError):  # no such operator, or none for this processor
            return 0.0
        found = operations / max(_quickest(product), 1e-9) / 1e9
    return found


def _quickest(product: Callable[[], object]) -> float:
    """Give the shortest of some runs, as many as there is time for, and one at least."""
    until = _now() + _SECONDS
    seconds = _seconds(product)
    for _ in range(_REPEATS - 1):
        if _now() + seconds > until:
            break
        seconds = min(seconds, _seconds(product))
    return seconds


def _seconds(product: Callable[[], object]) -> float:
    start = _now()
    product()
    return _now() - start


@lru_cache(maxsize=1)
def int8_is_exact() -> bool:
    """Tell whether 8-bit products are added up in 32 bits.

    Without instructions that do, pairs are added up in 16 bits, where large products saturate:
    another result, not just a slower one.
    """
    unsigned, signed = _EXTREMES
    columns = 64
    x = torch.full((16, columns), unsigned, dtype=torch.uint8)
    try:
        product = _int8_product(x, torch.full((columns, columns), signed, dtype=torch.int8))()
    except (AttributeError, RuntimeError):
        return False
    return bool((product == (unsigned - ZERO) * signed * columns).all())


@lru_cache(maxsize=8)
def products_attend_faster(dtype: torch.dtype, heads: int, width: int) -> bool:
    """Tell whether two products are clearly faster than torch's fused kernel, in texts as tweets.

    Parameters
    ----------
    dtype : dtype
        In half precision.
    heads, width : int
        Heads that attend, and columns of each.
    """
    texts, tokens = _ATTENTION
    with one_core():
        # A few texts first: what stands still on them is not tried on more.
        for n in (1, texts):
            ones = torch.ones(n, heads, tokens, width, dtype=dtype)
            ways = {
                attend: partial(attend, ones, ones, ones, None, None)
                for attend in (attend_fused, attend_by_products)
            }
            try:
                for product in ways.values():  # kernels are generated when they are first needed
                    product()
            except RuntimeError:  # none for this processor
                return False
            seconds = dict.fromkeys(ways, float("inf"))
            for _ in range(_REPEATS if n == 1 else _ATTENTION_REPEATS):
                for attend, product in ways.items():
                    seconds[attend] = min(seconds[attend], _seconds(product))
            fused, products = seconds[attend_fused], seconds[attend_by_products]
            if products > _STANDING_STILL * fused:
                return False
    return products * _CLEARLY < fused


def attends_faster_in_half(hidden_size: int, heads: int, attend: Attend) -> bool:
    """Tell whether attention beside 8-bit products is clearly faster in bfloat16 than in float32.

    Parameters
    ----------
    hidden_size, heads, attend
        See `attention_seconds`; `attend` is for bfloat16.
    """
    half = attention_seconds(torch.bfloat16, hidden_size, heads, attend)
    return half * _CLEARLY < attention_seconds(torch.float32, hidden_size, heads)


def attention_seconds(
    dtype: torch.dtype, hidden_size: int, heads: int, attend: Attend = attend_fused
) -> float:
    """Time what lies between 8-bit products in a model: queries, keys, values, and attention.

    Parameters
    ----------
    dtype : dtype
        Of what an 8-bit product gives to attention.
    hidden_size, heads : int
        Of the model.
    attend : callable
        See `packed_attention`.

    Returns
    -------
    float
        Seconds on one core for some texts as long as tweets are; infinite where there is no such
        product.
    """
    if _stands_still(dtype):
        return float("inf")
    texts, tokens = _ATTENTION
    x = torch.full((texts * tokens, hidden_size), 200, dtype=torch.uint8)
    product = _int8_product(x, torch.ones(3 * hidden_size, hidden_size, dtype=torch.int8), dtype)

    def run() -> None:
        query, key, value = product().view(texts, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attend(query, key, value, None, None)

    try:
        with one_core():
            run()
            return min(_seconds(run) for _ in range(_ATTENTION_REPEATS))
    except RuntimeError:  # no such operator for this processor
        return float("inf")


def _stands_still(dtype: torch.dtype) -> bool:
    """Tell whether 8-bit products that give this type have a reference kernel alone."""
    x, weight = torch.full((16, 64), 200, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.int8)
    seconds = []
    for given in (torch.float32, dtype):
        product = _int8_product(x, weight, given)
        try:
            product()  # kernels are generated when they are first needed
        except RuntimeError:  # no such operator for this processor
            return True
        seconds.append(min(_seconds(product) for _ in range(_REPEATS)))
    return seconds[1] > _STANDING_STILL * seconds[0]
