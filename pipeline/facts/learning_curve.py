"""Say what more rows would bring: figures of models of fewer rows in, a curve and a forecast out.

The figure of n rows is taken to follow a power law,

    v(n) = a - b * n^-c,    b >= 0,  0.1 <= c <= 1

(Hestness et al., "Deep learning scaling is predictable, empirically", 2017, equation 1), which is
fitted by least squares; a figure has its best value for a limit. Sizes count by their rows, as
real curves are bent more than the law and it is asked for more rows. It is extrapolated to twice
the rows that there are, and no further. Intervals are of the t distribution over the folds, of the
forecast by leaving each fold out (the jackknife: Efron, "The Jackknife, the Bootstrap and Other
Resampling Plans", 1982, chapter 3), and widened by how far the law of all sizes but the largest is
from what the largest gave. Nothing is fitted here that has weights.
"""

from __future__ import annotations

import numpy as np

from features.base.arrays import Floats
from pipeline.evaluation.metrics import METRICS, OfConfusion, score
from pipeline.facts.figures import CurvePoint, Forecast, LearningCurve
from pipeline.facts.judges.refits import Refits
from pipeline.head.calibration import TEMPERATURE
from pipeline.head.priors import importance

_EXPONENTS = np.linspace(0.1, 1.0, 91)
# Sizes without which nothing is extrapolated: the law has three numbers, and is tried on one more.
_LEAST_SIZES = 4
# Between shares, what rounding makes of it.
_EQUAL = 1e-12


def learning_curve(refits: Refits, metric: str) -> LearningCurve | None:
    """Give the curve of the models of all sizes; None where there is one size.

    Parameters
    ----------
    refits : Refits
    metric : str
        One of `METRICS`.
    """
    if len(refits.sizes) < 2:
        return None
    draws = _draws(refits, metric)[:, :, ::-1]
    sizes = refits.sizes[::-1]
    mean, half = draws.mean(axis=(0, 1)), _half_width(draws)
    points = tuple(
        CurvePoint(n, float(v), float(v - h), float(v + h))
        for n, v, h in zip(sizes, mean, half, strict=True)
    )
    forecast = None
    if len(sizes) >= _LEAST_SIZES:
        forecast = forecast_of(
            np.array(sizes, float),
            draws,
            len(refits.target.y),
            higher_is_better=METRICS[metric].higher_is_better,
        )
    return LearningCurve(metric, points, forecast)


def forecast_of(sizes: Floats, draws: Floats, n_rows: int, *, higher_is_better: bool) -> Forecast:
    """Extrapolate figures to twice the rows.

    Parameters
    ----------
    sizes : float array (S,)
    draws : float array (R, F, S)
        The figures in F folds of R cuts.
    n_rows : int
        That there are.
    higher_is_better : bool
        Whether the limit of the figure is 1; else it is 0.
    """
    asked = np.array([n_rows, 2 * n_rows], float)

    def at(values: Floats) -> Floats:
        """Give what twice the rows give, and how much that is more than what the rows give."""
        now, then = _extrapolated(sizes, values, asked, higher_is_better=higher_is_better)
        return np.array([then, then - now])

    cuts, folds, _ = draws.shape
    everything = at(draws.mean(axis=(0, 1)))
    total, n = draws.sum(axis=(0, 1)), cuts * folds
    without = np.array([[at((total - one) / (n - 1)) for one in cut] for cut in draws])
    missed = _missed(sizes, draws.mean(axis=(0, 1)), higher_is_better=higher_is_better)
    half = np.hypot(_half_width((n - 1) * (everything - without)), missed)
    (value, gain), (half_value, half_gain) = everything.tolist(), half.tolist()
    return Forecast(
        2 * n_rows,
        value,
        value - half_value,
        value + half_value,
        gain,
        gain - half_gain,
        gain + half_gain,
    )


def _missed(sizes: Floats, values: Floats, *, higher_is_better: bool) -> float:
    """Say how far the law of all sizes but the largest is from what the largest gave."""
    known = _extrapolated(sizes[:-1], values[:-1], sizes[-1:], higher_is_better=higher_is_better)
    return abs(float(known[0] - values[-1]))


def _extrapolated(
    sizes: Floats, values: Floats, asked: Floats, *, higher_is_better: bool
) -> Floats:
    """Give the law's values; of a figure that is better the lower it is, upside down."""
    if higher_is_better:
        return power_law(sizes, values, asked)
    return -power_law(sizes, -values, asked, best=0.0)


def power_law(sizes: Floats, values: Floats, asked: Floats, *, best: float = 1.0) -> Floats:
    """Fit the law to rising values (S,), and give it at some sizes.

    Examples
    --------
    >>> n = np.array([100.0, 200.0, 400.0, 800.0])
    >>> power_law(n, 0.8 - 2 * n**-0.5, np.array([1600.0])).round(6).tolist()
    [0.75]
    """
    weight = sizes / sizes.sum()
    powers = sizes ** -_EXPONENTS[:, None]  # (E, S)
    middle, mean = powers @ weight, values @ weight
    centred = powers - middle[:, None]
    b = -(centred @ (weight * values)) / (np.square(centred) @ weight)
    # The line through the middle of the points must fall with n^-c, and stay below the best value.
    b = np.clip(b, 0.0, np.maximum((best - mean) / middle, 0.0))
    a = mean + b * middle
    errors = np.square(values - a[:, None] + b[:, None] * powers) @ weight
    c = int(errors.argmin())
    return np.asarray(a[c] - b[c] * asked ** -_EXPONENTS[c])


def _draws(refits: Refits, metric: str) -> Floats:
    """Give the figures in each fold of each cut, by size: (R, F, S)."""
    y, stated = refits.target.y, refits.target.stated
    # A temperature leaves the most probable class as it is where all classes have equal shares.
    by_rank = isinstance(METRICS[metric], OfConfusion) and refits.method == TEMPERATURE
    judge = refits.raw if by_rank and np.ptp(stated) < _EQUAL else refits.calibrated
    found = []
    for cut in range(len(refits.logits[0])):
        folds = refits.folds(cut)
        probas = [judge(size, cut) for size in range(len(refits.sizes))]
        found.append(
            [
                [
                    score(metric, y[here], proba[here], importance(y[here], stated))
                    for proba in probas
                ]
                for here in (folds == fold for fold in range(refits.trials.n_first))
            ]
        )
    return np.array(found)


def _half_width(draws: Floats) -> Floats:
    """Give half the width of the 95 % interval of the mean of (R, F, ·) over cuts and folds.

    Cutting the same rows again adds no rows.
    """
    from scipy.special import stdtrit  # a tenth of a second: only where it is used

    folds = draws.shape[1]
    error = np.sqrt(draws.var(axis=1, ddof=1).mean(axis=0) / folds)
    return np.asarray(stdtrit(folds - 1, 0.975) * error)
