"""Say where a head and a report come from, and by which commands they are made again. Pure."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from features.version import __version__
from pipeline.data.join import Joined
from pipeline.evaluation.choice import Candidate, best_of, plateau
from pipeline.evaluation.metrics import METRICS
from pipeline.facts.facts import HeadFacts
from pipeline.facts.figures import Choice, TriedC
from pipeline.facts.judges.refits import method_of
from pipeline.head.head import Head

# What a head says of its fit, as far as it is shown.
_HISTORY = (
    "frostline",
    "versions",
    "processor",
    "data",
    "rows",
    "class_rows",
    "unlabelled",
    "C",
    "view_scales",
    "class_weight",
    "prior",
    "conflicts",
    "corrections",
    "matching",
    "near_identical",
    "seed",
    "metric",
    "measured_on",
    "converged",
    "gap",
)


def head_facts(head: Head, file: str) -> HeadFacts:
    """Say what a head is."""
    C = head.metadata.get("C")
    views = zip(view_names(head), head.sources, strict=True)
    return HeadFacts(
        file,
        head.labels,
        tuple(f"{name} ({source.width})" for name, source in views),
        tuple(f"{one[0].spec.model} ({one[0].spec.fingerprint[:12]})" for one in head.encoders),
        float(C) if isinstance(C, int | float) and np.isfinite(C) else None,
        None if head.prior is None else tuple(head.prior.tolist()),
        method_of(head) if "calibration" in head.metadata else None,
        head.metadata.get("rows", 0),
    )


def view_names(head: Head) -> list[str]:
    """Name the views as `--pooling` takes them."""
    number = {one[0].spec.fingerprint: f"{n}:" for n, one in enumerate(head.encoders, 1)}
    if len(number) == 1:
        return [source.view for source in head.sources]
    return [number[source.spec.fingerprint] + source.view for source in head.sources]


def choice_of(head: Head) -> Choice | None:
    """Give the grid that C was chosen from; None where there was one C, or none is known."""
    metric, entries = head.metadata.get("metric"), head.metadata.get("grid")
    if metric not in METRICS or not isinstance(entries, list) or len(entries) < 2:
        return None
    try:
        tried = [
            Candidate(
                float(one["C"]),
                tuple(map(float, one["fold_scores"])),
                difference_error=float(one["difference_error"]),
                log_loss=float(one["log_loss"]),
            )
            for one in entries
        ]
    except (KeyError, TypeError, ValueError):  # a head of an earlier frostline
        return None
    if not np.isfinite(
        [(one.C, one.score, one.difference_error, one.log_loss) for one in tried]
    ).all():
        return None
    higher = METRICS[metric].higher_is_better
    best = best_of(tried, higher_is_better=higher)
    near = plateau(tried, higher_is_better=higher)
    return Choice(
        metric,
        tuple(
            TriedC(
                one.C,
                one.score,
                one.score - best.score,
                one.difference_error,
                one.log_loss,
                head.metadata.get("C") == one.C,
                one is best,
                one in near,
            )
            for one in tried
        ),
    )


def provenance_of(
    head: Head, head_file: str, stores: Joined, files: Sequence[str], command: str
) -> dict[str, Any]:
    """Say, as JSON types, by what and from what a report was made.

    Parameters
    ----------
    head : Head
    head_file : str
    stores : Joined
    files : sequence of str
        Of vectors.
    command : str
        That made the report.
    """
    return {
        "versions": {"frostline": __version__}
        | {one: version(one) for one in ("numpy", "scikit-learn")}
        | {"python": platform.python_version()},
        "head": {
            name: head.metadata[name]
            for name in _HISTORY
            if name in head.metadata and _is_json(head.metadata[name])
        },
        "vectors": [
            {
                "model": store.spec.model,
                "fingerprint": store.fingerprint,
                "precision": store.precision,
                "made_from": list(map(str, store.provenance[0].get("inputs", []))),
            }
            for store in stores.stores
        ],
        "commands": [fit_command(head, head_file, files), command],
    }


def _is_json(value: Any) -> bool:
    """Say whether JSON can hold what a head says, which may be a stranger's."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def fit_command(head: Head, head_file: str, files: Sequence[str]) -> str:
    """Give the command that fits the head again, as far as the head says how it was."""
    said = head.metadata
    words = ["frostline", "fit", *files, "-o", head_file]
    for view in view_names(head):
        words += ["--pooling", view]
    for name in ("C", "seed", "class_weight", "near_identical"):
        if said.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", f"{said[name]}"]
    if head.prior is not None:
        shares = zip(head.labels, head.prior.tolist(), strict=True)
        words += ["--prior", ",".join(f"{label}={share:.6g}" for label, share in shares)]
    words += ["--cv", "5", "--calibrate", method_of(head)]
    return shlex.join(words)
