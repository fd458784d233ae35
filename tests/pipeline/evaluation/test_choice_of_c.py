import numpy as np
import pytest

from pipeline.evaluation.choice import C_GRID, Candidate, choose, paired, plateau


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({0.01: [0.5], 0.1: [0.7], 1.0: [0.6]}, 0.1),
        ({0.01: [0.7], 0.1: [0.7], 1.0: [0.6]}, 0.01),
        ({1.0: [0.7], 0.1: [0.7], 0.01: [0.1]}, 0.1),
        ({0.01: [0.4, 0.8], 0.1: [0.61, 0.61]}, 0.1),
        ({5.0: [0.0]}, 5.0),
    ],
)
def test_choice_is_the_best_and_among_equals_the_smallest(scores, best):
    assert best == choose([Candidate(C, tuple(folds)) for C, folds in scores.items()]).C


@pytest.mark.parametrize(
    ("scores", "best", "with_rule"),
    [
        # Standard error of the best: 0.1 / sqrt(3) = 0.0577.
        ({0.01: [0.54], 0.1: [0.55], 1.0: [0.5, 0.7, 0.6]}, 1.0, 0.1),
        ({0.01: [0.56], 0.1: [0.2], 1.0: [0.5, 0.7, 0.6]}, 1.0, 0.01),
        ({0.01: [0.1], 0.1: [0.2], 1.0: [0.5, 0.7, 0.6]}, 1.0, 1.0),
        ({1.0: [0.5, 0.7, 0.6], 10.0: [0.6]}, 1.0, 1.0),
    ],
)
def test_one_standard_error(scores, best, with_rule):
    candidates = [Candidate(C, tuple(folds)) for C, folds in scores.items()]
    assert best == choose(candidates).C
    assert with_rule == choose(candidates, one_standard_error=True).C


def test_the_lowest_loss_is_the_best():
    losses = {0.01: [0.8], 0.1: [0.66], 1.0: [0.5, 0.7, 0.6], 10.0: [0.6]}
    candidates = [Candidate(C, tuple(folds)) for C, folds in losses.items()]
    assert choose(candidates, higher_is_better=False).C == 1.0
    assert choose(candidates, higher_is_better=False, one_standard_error=True).C == 1.0
    nearer = [*candidates, Candidate(0.02, (0.65,))]
    assert choose(nearer, higher_is_better=False, one_standard_error=True).C == 0.02


def test_repeats_of_the_same_rows_are_no_more_rows():
    once, thrice = Candidate(1.0, (0.5, 0.7, 0.6)), Candidate(1.0, (0.5, 0.7, 0.6) * 3, repeats=3)
    assert thrice.score == pytest.approx(once.score)
    assert thrice.standard_error == pytest.approx(once.standard_error)


def test_score_and_its_standard_error():
    candidate = Candidate(1.0, (0.5, 0.7, 0.6))
    assert candidate.score == pytest.approx(0.6)
    assert candidate.standard_error == pytest.approx(0.1 / np.sqrt(3))


def test_grid():
    assert (C_GRID[0], C_GRID[-1]) == (1e-4, 1e2)
    assert list(C_GRID) == sorted(set(C_GRID))
    assert {0.001, 0.01, 0.1, 1.0, 10.0} < set(C_GRID)


def test_the_smallest_that_the_rows_cant_tell_from_the_best():
    """Differences of 0.02, 0.01 and 0 to the best, whose standard errors are 0.015 each."""
    candidates = [Candidate(C, (score,)) for C, score in ((0.01, 0.68), (0.1, 0.69), (1.0, 0.7))]
    influence = np.array([[0.015, 0.0], [0.0, 0.015], [0.0, 0.0]])
    found = paired(candidates, influence, np.zeros((3, 1)))
    assert [one.difference_error for one in found] == pytest.approx([0.015, 0.015, 0.0])
    assert [one.C for one in plateau(found)] == [0.1, 1.0]
    assert choose(found).C == 0.1


@pytest.mark.parametrize(("losses", "best"), [((0.50, 0.52, 0.55), 0.01), ((0.58, 0.5, 0.55), 0.1)])
def test_on_the_plateau_the_log_loss_decides(losses, best):
    """All are as good by the metric; a log-loss is told from another by 0.04."""
    scores = zip((0.01, 0.1, 1.0), (0.69, 0.69, 0.7), losses, strict=True)
    candidates = [Candidate(C, (score,), log_loss=loss) for C, score, loss in scores]
    of_score = np.array([[0.02], [0.02], [0.0]])
    of_loss = np.array([[0.04, 0.0], [0.0, 0.0], [0.0, 0.04]])
    if losses[0] < losses[1]:
        of_loss = of_loss[[1, 0, 2]]
    found = paired(candidates, of_score, of_loss)
    assert best == choose(found).C


def test_the_log_loss_of_what_is_off_the_plateau_does_not_count():
    candidates = [Candidate(0.01, (0.5,), log_loss=0.1), Candidate(0.1, (0.7,), log_loss=0.9)]
    assert choose(paired(candidates, np.zeros((2, 1)), np.zeros((2, 1)))).C == 0.1


def test_rows_that_move_both_alike_say_nothing_of_the_difference():
    candidates = [Candidate(0.01, (0.69,)), Candidate(0.1, (0.7,))]
    alike, none = np.full((2, 3), 0.1), np.zeros((2, 3))
    assert choose(paired(candidates, alike, none)).C == 0.1
    assert choose(paired(candidates, alike * [[1], [-1]], none)).C == 0.01


def test_a_loss_has_a_plateau_as_well():
    candidates = [Candidate(0.01, (0.71,)), Candidate(0.1, (0.7,)), Candidate(1.0, (0.9,))]
    moves = np.array([[0.02], [0.0], [0.02]])
    found = paired(candidates, moves, np.zeros((3, 1)), higher_is_better=False)
    assert choose(found, higher_is_better=False).C == 0.01
    assert [one.C for one in plateau(found, higher_is_better=False)] == [0.01, 0.1]
