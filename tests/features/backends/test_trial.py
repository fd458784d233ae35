"""The fastest candidate is taken, in bounded time, whatever one of them does."""

import threading
import time

import numpy as np
import pytest
import torch

from features.backends.choice import Candidate
from features.backends.trial import OUT_OF_TIME, Trial, int8_reason, run_trial
from features.errors import InputError
from features.spec.pooling import BatchPart

EXACT, HALF = (
    Candidate("torch", "float32", "prepacked"),
    Candidate("torch", "bfloat16", "prepacked"),
)
PLAIN = Candidate("torch", "float32", "plain")
OTHER, THIRD = Candidate("openvino", "float32"), Candidate("onnx", "float32")
TEXTS = [np.array([1, *range(10, 10 + n), 2], np.int32) for n in (3, 8, 21)]


class Sleeping:
    """A backend that takes a time a token, and one a call."""

    one_length = False
    streams = 2

    def __init__(self, of_token, of_call=0.0):
        self.of_token, self.of_call = of_token, of_call
        self.calls, self.of_token_it_took = [], []

    def forward(self, ids):
        tokens, begun = sum(map(len, ids)), time.perf_counter()
        self.calls.append(tokens)
        time.sleep(self.of_call + self.of_token * tokens)
        self.of_token_it_took.append((time.perf_counter() - begun) / tokens)
        yield BatchPart(slice(0, len(ids)), torch.tensor([len(text) for text in ids]), {})


class Stuck(Sleeping):
    def __init__(self, *, busy=False):
        super().__init__(0.0)
        self.release, self.busy = threading.Event(), busy

    def forward(self, ids):
        until = time.thread_time() + 20
        while self.busy and not self.release.is_set() and time.thread_time() < until:
            pass
        self.release.wait(20)
        yield from super().forward(ids)


# Rates of products by dtype and kernels, instead of this machine's.
RATES = {
    ("float32", "prepacked"): 100.0,
    ("float32", "plain"): 90.0,
    ("bfloat16", "prepacked"): 150.0,
}


def a_trial(rates=RATES, **changed):
    settings = {
        "widths": (64, 64), "flops_per_token": 21e6, "texts": TEXTS, "affixes": (1, 1),
        "max_length": 128, "max_batch_tokens": 512, "tune": False,
        "product_rate": lambda dtype, kernels, *widths: rates.get(
            (str(dtype).removeprefix("torch."), kernels), 0.0
        ),
    }  # fmt: skip
    return Trial(**{**settings, **changed})


def run(backends, keeps=lambda candidate, backend: "", **changed):
    return run_trial(a_trial(**changed), list(backends), backends.__getitem__, keeps)


@pytest.mark.parametrize("fastest", [EXACT, HALF, OTHER, THIRD])
def test_the_fastest_is_taken(fastest):
    backends = {c: Sleeping(2e-4) for c in (EXACT, HALF, OTHER, THIRD)}
    backends[fastest] = Sleeping(2e-5)
    choice, backend = run(backends)
    assert choice.candidate == fastest and backend is backends[fastest]
    assert choice.rates.keys() == {str(c) for c in backends}
    assert choice.rates[str(fastest)] == max(choice.rates.values())
    assert choice.left_out == {} and not choice.remembered


@pytest.mark.parametrize("exported", [OTHER, THIRD])
def test_a_tie_is_for_the_exported_model_which_opens_without_torch(exported):
    choice, _ = run({EXACT: Sleeping(2e-4), exported: Sleeping(2.04e-4)})
    assert set(choice.rates) == {str(EXACT), str(exported)}
    # On a busy machine they may have slept so unequally that it is none.
    is_a_tie = choice.rates[str(exported)] * 1.05 > choice.rates[str(EXACT)]
    assert choice.candidate == (exported if is_a_tie else EXACT), choice.rates


def test_rates_are_texts_a_second_of_all_streams():
    backends = {EXACT: Sleeping(1e-4), OTHER: Sleeping(1e-3)}
    choice, _ = run(backends)
    took = backends[EXACT].of_token_it_took  # which is more where the machine is busy
    assert 0.5 * 2 / (30 * max(took)) < choice.rates[str(EXACT)] < 1.05 * 2 / (30 * min(took))


def test_what_a_call_costs_counts_less_in_the_full_batches_of_a_run():
    backends = {EXACT: Sleeping(1e-4, of_call=0.03), OTHER: Sleeping(1.3e-4)}
    choice, _ = run(backends, max_batch_tokens=8192, tune=True)
    assert choice.candidate == EXACT and choice.max_batch_tokens >= 2048


def test_a_stuck_candidate_costs_its_turn_and_no_more():
    stuck = Stuck()
    begun = time.perf_counter()
    choice, _ = run({EXACT: Sleeping(1e-4), OTHER: stuck, THIRD: Sleeping(5e-5)})
    seconds = time.perf_counter() - begun
    stuck.release.set()
    assert choice.candidate == THIRD and choice.left_out == {str(OTHER): OUT_OF_TIME}
    assert seconds < 10  # it would wait for 20


def test_where_all_are_stuck_the_plainest_is_taken():
    stuck = {candidate: Stuck() for candidate in (HALF, OTHER, EXACT)}
    choice, backend = run(stuck)
    for backend_of in stuck.values():
        backend_of.release.set()
    assert choice.candidate == EXACT and backend is stuck[EXACT]
    assert set(choice.left_out.values()) == {OUT_OF_TIME}


def test_where_one_is_left_there_is_nothing_to_measure():
    backends = {EXACT: Sleeping(1e-4), PLAIN: Sleeping(1e-4)}
    choice, backend = run(backends)
    assert choice.candidate == EXACT and backend is backends[EXACT]
    assert choice.rates == {} and backends[EXACT].calls == [] and str(PLAIN) in choice.left_out


def test_who_does_not_keep_its_vectors_is_left_out_with_the_figure():
    backends = {HALF: Sleeping(1e-5), EXACT: Sleeping(1e-4)}
    reason = "its vectors keep a cosine of 0.99000, not 0.9999"
    choice, _ = run(backends, lambda candidate, backend: reason if candidate == HALF else "")
    assert choice.candidate == EXACT and choice.left_out == {str(HALF): reason}


def test_who_can_not_be_made_is_left_out_with_its_reason():
    def make(candidate):
        if candidate == OTHER:
            raise InputError("it computes in f32 on this processor")
        return Sleeping(1e-4)

    choice, _ = run_trial(a_trial(), [EXACT, OTHER], make, lambda c, b: "")
    assert choice.left_out == {str(OTHER): "it computes in f32 on this processor"}


def test_where_nobody_can_the_first_reason_is_raised():
    def make(candidate):
        raise InputError(f"no {candidate.backend}")

    with pytest.raises(InputError, match="no torch"):
        run_trial(a_trial(), [EXACT, OTHER], make, lambda c, b: "")


def test_where_nobody_keeps_its_vectors_all_reasons_are_given():
    other = Candidate("openvino", "bfloat16")
    with pytest.raises(
        InputError, match=r"keeps its vectors .*torch bfloat16: too far.*`dtype=float32`"
    ):
        run({HALF: Sleeping(1e-5), other: Sleeping(1e-5)}, lambda c, b: "too far")


def test_slow_kernels_are_not_run_at_all():
    backends = {EXACT: Sleeping(1e-4), PLAIN: Sleeping(1e-6)}
    choice, _ = run(backends)
    assert choice.candidate == EXACT and backends[PLAIN].calls == []
    assert "90 GFLOP/s" in choice.left_out[str(PLAIN)]
    rates = RATES | {("float32", "plain"): 140.0}
    assert run(backends, rates=rates)[0].candidate == PLAIN


def test_half_precision_that_is_slower_is_not_run_in_any_backend():
    rates = RATES | {("bfloat16", "prepacked"): 50.0}
    other = Candidate("openvino", "bfloat16")
    backends = {EXACT: Sleeping(1e-4), HALF: Sleeping(1e-6), other: Sleeping(1e-6)}
    choice, _ = run(backends, rates=rates)
    assert choice.candidate == EXACT
    assert backends[HALF].calls == backends[other].calls == []


def test_float32_is_not_run_where_half_precision_is_far_ahead():
    rates = RATES | {("bfloat16", "prepacked"): 500.0}
    backends = {EXACT: Sleeping(1e-4), HALF: Sleeping(1e-5), OTHER: Sleeping(1e-4)}
    choice, _ = run(backends, rates=rates)
    assert choice.candidate == HALF and backends[EXACT].calls == backends[OTHER].calls == []
    keeps = lambda candidate, backend: "far" if candidate == HALF else ""  # noqa: E731
    choice, _ = run(backends, keeps, rates=rates)
    assert choice.candidate in (EXACT, OTHER) and backends[EXACT].calls


def test_others_are_not_even_made_where_the_model_takes_no_time():
    made = []

    def make(candidate):
        made.append(candidate)
        return Sleeping(0.0)

    choice, _ = run_trial(a_trial(), [EXACT, OTHER], make, lambda c, b: "")
    assert choice.candidate == EXACT and made == [EXACT]


@pytest.mark.parametrize("tokens", [1, 64, 500, 4096])
def test_a_probe_is_of_whole_texts_as_long_as_tweets(tokens):
    batch = a_trial().batch(tokens)
    assert {len(text) for text in batch} <= {29, 30, 31}
    assert abs(sum(map(len, batch)) - tokens) < 31
    assert all(text[0] == 1 and text[-1] == 2 and 1 not in text[1:-1] for text in batch)


def test_a_probe_keeps_to_what_the_encoder_reads():
    assert {len(text) for text in a_trial(max_length=8).batch(100)} == {8}


def test_larger_models_get_more_time_but_never_more_than_two_seconds():
    seconds = [a_trial(flops_per_token=f).seconds for f in (1e6, 21e6, 170e6, 1e12)]
    assert seconds[0] == seconds[1] == 0.5
    assert seconds[2:] == [pytest.approx(2.0, rel=0.02), 2.0]


class Working(Sleeping):
    """A backend that takes its time of the processor, and then waits."""

    def __init__(self, of_token, waits=0.0):
        super().__init__(0.0, of_call=waits)
        self.work = of_token

    def forward(self, ids):
        until = time.thread_time() + self.work * sum(map(len, ids))
        while time.thread_time() < until:
            pass
        yield from super().forward(ids)


BESIDE = Candidate("openvino", "bfloat16")
# Seconds of the processor for a token, and what is to be taken by all processes.
STEADY = [
    ({EXACT: 1.0e-5, HALF: 0.9e-5}, EXACT),
    ({EXACT: 3.0e-5, HALF: 1.0e-5}, HALF),
    ({EXACT: 1.0e-5, OTHER: 0.9e-5, THIRD: 0.9e-5}, EXACT),
    ({EXACT: 3.0e-5, OTHER: 1.0e-5, THIRD: 0.9e-5}, THIRD),
    ({EXACT: 3.0e-5, HALF: 1.0e-5, BESIDE: 0.9e-5}, HALF),
    ({EXACT: 3.0e-5, HALF: 2.0e-5, BESIDE: 0.7e-5}, BESIDE),
]


@pytest.mark.parametrize(("of_token", "taken"), STEADY)
def test_on_one_core_the_plainest_is_taken_unless_another_one_is_far_faster(of_token, taken):
    backends = {candidate: Working(seconds) for candidate, seconds in of_token.items()}
    choice, backend = run(backends, one_core=True)
    assert (choice.candidate, choice.streams, choice.left_out) == (taken, 1, {})
    assert backend is backends[taken] and choice.max_batch_tokens == 512


def test_on_one_core_time_that_others_have_it_counts_nothing():
    backends = {EXACT: Working(3e-5), OTHER: Working(1e-5, waits=0.05)}
    assert run(backends, one_core=True)[0].candidate == OTHER


@pytest.mark.slow
def test_on_one_core_a_candidate_that_works_for_ever_costs_its_time_of_the_processor():
    stuck, begun = Stuck(busy=True), time.process_time()
    choice, _ = run({EXACT: Working(1e-5), OTHER: stuck, THIRD: Working(3e-5)}, one_core=True)
    seconds = time.process_time() - begun
    stuck.release.set()
    assert choice.candidate == EXACT and choice.left_out == {str(OTHER): OUT_OF_TIME}
    assert seconds < 4


@pytest.mark.parametrize(
    ("plain", "kernels"), [(90.0, "prepacked"), (110.0, "prepacked"), (140.0, "plain")]
)
def test_on_one_core_other_kernels_are_taken_where_they_are_far_faster(plain, kernels):
    backends = {EXACT: Working(1e-5), PLAIN: Working(1e-5)}
    choice, _ = run(backends, rates=RATES | {("float32", "plain"): plain}, one_core=True)
    assert choice.candidate.kernels == kernels


def test_int8_is_refused_with_both_rates_where_it_gains_nothing():
    rates = {torch.float32: 180.0, torch.int8: 0.08}
    reason = int8_reason((384, 384), product_rate=lambda dtype, *rest: rates[dtype])
    assert (
        "0.1 GOP/s" in reason and "180.0 GFLOP/s" in reason and "nothing would be gained" in reason
    )
