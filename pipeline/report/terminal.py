"""Summaries and metrics in, text for a terminal out. It computes nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from features.base.shown import printable
from features.extraction.summary import ExtractSummary
from features.spec.vector_spec import VectorSpec
from features.store.reader import FeatureStore
from pipeline.compare import Comparison
from pipeline.data.matching import Matching
from pipeline.doctor.examine import Diagnosis, Place, Taken
from pipeline.evaluation.metrics import Metrics
from pipeline.fit import FitResult
from pipeline.head.head import Head
from pipeline.scoring.output_files import Written

_COLUMNS = 80  # of a terminal


def table(rows: Sequence[Sequence[object]]) -> str:
    """Line up cells; the first column to the left, the others to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def extract_text(summary: ExtractSummary) -> str:
    """Say what a run of `extract` did."""
    s = summary
    views = ", ".join(f"{view} ({width})" for view, width in s.views.items())
    size = f"{s.file_bytes / 1e6:,.1f} MB"
    facts: dict[str, str] = {
        "rows": f"{s.rows:,}" + _listed(s.labels),
        "unique texts": f"{s.unique:,} ({s.encoded:,} encoded in this run"
        + (f", {s.resumed:,} in one that was interrupted)" if s.resumed else ")"),
        "tokens": f"{s.tokens:,} ({s.tokens / s.rows:.1f} a tweet)",
        "flagged": f"{s.truncated:,} truncated, {s.empty:,} empty, {s.repaired:,} repaired",
        "rejected": f"{s.rejected:,}" + (f", listed in {s.rejects_file}" if s.rejects_file else ""),
        "views": views,
        "encoder": f"{printable(s.model)}, {s.precision} precision"
        + (f" ({s.compute})" if s.compute else ""),
        **({"chosen": s.chosen} if s.chosen else {}),
    }
    if s.outcome == "unchanged":
        return (
            f"{printable(str(s.output))} is up to date: same input, same encoder; nothing was done\n"
            + _facts(facts)
        )
    parts = ", ".join(
        f"{part} {s.seconds[part]:.2f}" for part in ("read", "tokenise", "forward", "write")
    )
    facts["seconds"] = f"{s.seconds['total']:.2f} (load {s.seconds['load']:.2f}, {parts})"
    facts["speed"] = f"{s.tweets_per_second:,.0f} tweets/s, without loading the model"
    if s.gflops:
        facts["forward"] = f"{s.gflops:,.0f} useful GFLOP/s"
    facts["file"] = f"{s.output}, {size}"
    verb = "extended" if s.outcome == "extended" else "written"
    return f"{printable(str(s.output))} {verb}\n" + _facts(facts)


def fit_text(result: FitResult) -> str:
    """Say what was fitted and what it is worth."""
    head, meta = result.head, result.head.metadata
    facts = {
        "views": " + ".join(_takes(head)),
        "rows": f"{meta['rows']:,}"
        + _listed(dict(zip(head.labels, meta["class_rows"], strict=True)))
        + (f"; {result.unlabelled:,} without a label left out" if result.unlabelled else ""),
        **({} if result.matching is None else {"joined": matching_text(result.matching)}),
        "C": f"{meta['C']:g}" + (" (chosen)" if result.candidates else ""),
        "class weight": meta["class_weight"],
        "calibration": _calibration(meta["calibration"]),
        "certificate": f"within {result.gap:.1e} of the optimum, relatively, "
        f"after {meta['iterations']} passes",
        "seconds": ", ".join(f"{part} {value:.2f}" for part, value in result.seconds.items()),
    }
    text = _facts(facts)
    if result.candidates:
        rows: list[list[object]] = [["C", _in_words(meta["metric"]), "± s.e."]]
        rows += [
            [
                f"{c.C:g}" + (" *" if meta["C"] == c.C else ""),
                f"{c.score:.4f}",
                _error(c.fold_scores, c),
            ]
            for c in result.candidates
        ]
        text += "\n\n" + table(rows)
    if not result.converged:
        text += f"\n\n{_not_converged(meta)}"
    return text + "\n\n" + metrics_text(result.metrics, result.measured_on, meta["prior"])


def _in_words(metric: str) -> str:
    words = {"macro-recall": "macro recall", "macro-f1": "macro F1"}
    return words.get(metric.replace("_", "-"), metric.replace("_", "-"))


def _not_converged(meta: Mapping[str, Any]) -> str:
    if meta["iterations"] >= meta["max_iter"]:
        return (
            f"Not converged: --max-iter ended the fit after {meta['iterations']} passes, before --tol "
            f"{meta['tol']:g} was reached; give more passes or a larger tolerance"
        )
    return (
        f"Not converged: rounding ended the fit before --tol {meta['tol']:g} was reached; give a larger "
        "tolerance"
    )


def _error(fold_scores: Sequence[float], candidate: Any) -> str:
    return f"{candidate.standard_error:.4f}" if len(fold_scores) > 1 else ""


def _takes(head: Head) -> list[str]:
    """Name the views of a head, with the numbers of their encoders if there are several."""
    number = {one[0].spec.fingerprint: f"{n}:" for n, one in enumerate(head.encoders, 1)}

    def name(source: VectorSpec) -> str:
        prefix = number[source.spec.fingerprint] if len(number) > 1 else ""
        return f"{prefix}{source.view} ({source.width})"

    return [name(source) for source in head.sources]


def matching_text(matching: Matching) -> str:
    """Say what came of joining stores."""
    by = "id and text" if matching.by_text else "id alone, as the encoders normalise differently"
    text = f"{matching.rows:,} rows by {by}"
    if any(matching.left_out.values()):
        text += "; left out " + ", ".join(
            f"{rows:,} of {printable(name)}" for name, rows in matching.left_out.items()
        )
        reasons = {
            "ids with another text": matching.other_text,
            "rows with another label": matching.other_label,
        }
        if found := [f"{count:,} {what}" for what, count in reasons.items() if count]:
            text += f" ({', '.join(found)})"
    return text


def _calibration(found: Mapping[str, Any]) -> str:
    """Say what was done to the probabilities, and what it gave."""
    if found["method"] == "none":
        return "none"
    before, after = found["before"], found["after"]
    return (
        f"temperature {found['temperature']:.3f}: log-loss {before['log_loss']:.4f} to "
        f"{after['log_loss']:.4f}, calibration error {before['calibration_error']:.4f} to "
        f"{after['calibration_error']:.4f}"
    )


def _prior(labels: Sequence[str], prior: Sequence[float]) -> str:
    """Give `uniform`, or the share of each class."""
    if len(set(prior)) == 1:
        return "uniform"
    shown = [
        f"{printable(n)} {share:.3f}" for n, share in list(zip(labels, prior, strict=True))[:8]
    ]
    return ", ".join(shown) + (", …" if len(labels) > 8 else "")


def metrics_text(metrics: Metrics, measured_on: str, prior: Sequence[float] | None = None) -> str:
    """Lay out metrics as tables; log-loss and calibration error are those under `prior`."""
    low, high = metrics.macro_recall_interval
    overall = {
        "macro recall": f"{metrics.macro_recall:.4f}  (95 % interval {low:.4f} to {high:.4f})",
        "accuracy": f"{metrics.accuracy:.4f}",
        "macro F1": f"{metrics.macro_f1:.4f}",
        "log-loss": f"{metrics.log_loss:.4f}",
        "calibration error": f"{metrics.calibration_error:.4f}",
    }
    if prior is not None:
        overall["both for the prior"] = _prior([c.label for c in metrics.classes], prior)
    names = [printable(c.label) for c in metrics.classes]
    per_class = [["class", "rows", "precision", "recall", "F1"]] + [
        [name, f"{c.rows:,}", f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}"]
        for name, c in zip(names, metrics.classes, strict=True)
    ]
    confusion = [["true \\ predicted", *names]] + [
        [name, *(f"{n:,}" for n in row)] for name, row in zip(names, metrics.confusion, strict=True)
    ]
    return "\n\n".join(
        [
            f"Measured on {printable(measured_on)} ({metrics.rows:,} rows)\n{_facts(overall)}",
            table(per_class),
            table(confusion),
        ]
    )


def comparison_text(result: Comparison) -> str:
    """Lay out a comparison as one table, the best line first."""
    metric = _in_words(result.metric)
    shown = ["macro_recall", "log_loss"]
    if (asked := result.metric.replace("-", "_")) not in shown:
        shown.append(asked)
    first, *others = map(_in_words, shown)
    head = ["view", "D", "C", first, "95 % interval", *others]
    rows: list[list[object]] = [[*head, "to the best", "95 % interval", "", "seconds"]]
    for line in result.lines:
        low, high = line.metrics.macro_recall_interval
        below, above = line.difference_interval
        first, *others = (f"{getattr(line.metrics, name):.4f}" for name in shown)
        cells = [line.name, f"{line.width:,}", f"{line.C:g}", first, f"{low:.4f} to {high:.4f}"]
        difference = (
            ["", "", "best"]
            if line is result.lines[0]
            else [
                f"{line.difference:+.4f}",
                f"{below:+.4f} to {above:+.4f}",
                "" if line.distinguishable else "~ best",
            ]
        )
        rows.append([*cells, *others, *difference, f"{line.seconds:.1f}"])
    text = (
        f"Measured on {result.measured_on} ({result.rows:,} rows"
        + (f"; {result.unlabelled:,} without a label left out" if result.unlabelled else "")
        + f"), C chosen by {metric}\n"
        + (f"Joined: {matching_text(result.matching)}\n" if result.matching else "")
        + f"Log-loss is for the prior {_prior(result.labels, result.prior)}, "
        f"after calibration\n\n{table(rows)}\n\n"
        f"To the best: difference in {metric}, by a paired bootstrap over rows. ~ best: its interval "
        "holds 0,\nso that these rows don't tell the two apart."
    )
    if slow := [line.name for line in result.lines if not line.converged]:
        text += f"\n\nNot converged: --max-iter ended fits of {', '.join(slow)}; give more passes"
    return text


def predict_text(written: Written, output: str, rejected: int, rejects_file: object) -> str:
    """Say what was scored, and show the first rows."""
    facts = {"rows": f"{written.rows:,}" + _listed(written.counts), "file": output}
    if rejected:
        facts["rejected"] = f"{rejected:,}, listed in {rejects_file}"
    text = f"{printable(output)} written\n" + _facts(facts)
    if written.first:
        rows: list[list[object]] = [
            ["label", *(k for k in written.first[0] if k.startswith("p_")), "tweet"]
        ]
        rows += [
            [
                printable(row["label"]),
                *(f"{v:.3f}" for k, v in row.items() if k.startswith("p_")),
                "  " + _start(row.get("text", row["id"])),
            ]
            for row in written.first
        ]
        widths = table([row[:-1] for row in rows]).split("\n")
        text += "\n\n" + "\n".join(
            f"{left}  {row[-1]}".rstrip() for left, row in zip(widths, rows, strict=True)
        )
    return text


def diagnosis_text(found: Diagnosis) -> str:
    """Lay out what was found out about a machine, in sections."""
    machine = {
        "processor": str(found.machine["processor"]),
        "instruction sets": ", ".join(found.machine["instruction_sets"]) or "none that matter",
        "cores": f"{found.machine['cores']:,}",
        "settings": ", ".join(f"{k}={v}" for k, v in found.machine["settings"].items()) or "none",
        "devices": "; ".join(
            " ".join([d.name, d.model, _size(d.memory_bytes)]).strip() for d in found.devices
        )
        or f"none: {found.reason}",
    }
    models = found.models
    places = {
        models.name: models.folder or models.reason,
        "packaged": models.packaged,
        **{place.what: _place(place) for place in found.places},
    }
    if models.hub_offline:
        places["hub"] = "HF_HUB_OFFLINE is set, so that nothing is fetched"
    sections = {
        "Machine": _wrapped(machine),
        "Versions": _wrapped(found.versions),
        "Models": _wrapped(places),
    }
    if found.products:
        title = "GFLOP/s a core (GOP/s in int8), products of {:,} x {:,}".format(*found.widths)
        sections[title] = _by_dtype(
            {
                (f"{p.library} {p.kernels}", p.dtype): f"{p.rate:,.1f}" if p.rate else "-"
                for p in found.products
            }
        )
    if found.trial:
        several = len({m.device for m in found.trial}) > 1

        def way(m: Any) -> str:
            return f"{m.backend} on {m.device}" if several else str(m.backend)

        rates = {
            (way(m), m.dtype): "-" if m.reason else f"{m.tweets_per_second:,.0f}"
            for m in found.trial
        }
        missing = {f"{way(m)} {m.dtype}": m.reason for m in found.trial if m.reason}
        sections[f"Tweets/s with {models.name}, from text to vector"] = _by_dtype(rates) + (
            f"\n{_wrapped(missing)}" if missing else ""
        )
    if found.auto is not None:
        sections["What `auto` takes"] = _wrapped(_taken(found.auto))
        if found.auto.choice is not None and found.auto.choice.left_out:
            sections["What its trial left out"] = _wrapped(found.auto.choice.left_out)
    return "\n\n".join(f"{printable(title)}\n{text}" for title, text in sections.items())


def _taken(auto: Taken) -> dict[str, str]:
    """Say what is taken, and why."""
    choice = auto.choice
    if choice is None:
        return {"nothing": auto.reason}
    return {
        "takes": f"{choice.candidate} on {auto.device}",
        "gives": f"{auto.tweets_per_second:,.0f} tweets/s from text to vector",
        "chosen": choice.summary(),
        "measured": "in an earlier run (remembered)" if choice.remembered else "in this run",
        "batches": f"{choice.max_batch_tokens:,} tokens, {choice.streams} at a time",
    }


def _place(place: Place) -> str:
    parts = [place.path]
    if place.bytes is not None:
        parts.append(f"{_size(place.bytes)} in it")
    if place.free_bytes is not None:
        parts.append(f"{_size(place.free_bytes)} free")
    return ", ".join(parts)


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return ""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def _by_dtype(cells: Mapping[tuple[str, str], str]) -> str:
    """Lay out cells by row and precision; empty where there is none."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    dtypes = list(dict.fromkeys(dtype for _, dtype in cells))
    lines = [[row, *(cells.get((row, dtype), "") for dtype in dtypes)] for row in rows]
    return textwrap.indent(table([["", *dtypes], *lines]), "  ")


def store_text(store: FeatureStore) -> str:
    """Say what a store holds and where it came from."""
    import numpy as np

    codes = store.labels()
    counts = {n: int(np.count_nonzero(codes == k)) for k, n in enumerate(store.label_names)}
    made = store.provenance[0]
    facts = {
        "rows": f"{store.n_rows:,}" + _listed(counts),
        "shards": str(len(store.paths)),
        "views": ", ".join(f"{view} ({width})" for view, width in store.views.items()),
        "precision": f"{store.precision}, stored as {store.store_dtype}",
        **_spec_facts(store.spec.to_dict(), store.fingerprint),
        "made from": printable(", ".join(map(str, made.get("inputs", [])))),
        "made by": _versions(made),
    }
    return f"{printable(str(store))}: cached vectors\n{_facts(facts)}\n\nIt fits heads of encoder {store.fingerprint[:12]}."


def head_text(head: Head, path: str) -> str:
    """Say what a head is, what it takes, and how it was measured."""
    meta = head.metadata
    facts = {"labels": printable(", ".join(head.labels))}
    facts["takes"] = " + ".join(_takes(head))
    for number, sources in enumerate(head.encoders, 1):
        spec = _spec_facts(sources[0].spec.to_dict(), sources[0].spec.fingerprint)
        spec["precision"] = str(sources[0].precision)
        several = f" ({number})" if len(head.encoders) > 1 else ""
        facts |= {f"{name}{several}": value for name, value in spec.items()}
    facts["fitted on"] = (
        f"{meta.get('rows', 0):,} rows, C = {meta.get('C')}, class weight {meta.get('class_weight')}"
    )
    if isinstance(meta.get("gap"), float):
        facts["certificate"] = f"within {meta['gap']:.1e} of the optimum, relatively"
    if head.prior is not None:
        facts["prior"] = _prior(head.labels, head.prior.tolist())
    metrics = meta.get("metrics") or {}
    if "macro_recall" in metrics:
        facts["macro recall"] = (
            f"{metrics['macro_recall']:.4f} on {printable(str(meta.get('measured_on')))}"
        )
    facts["made by"] = _versions(meta)
    encoders = ", ".join(sorted({source.spec.fingerprint[:12] for source in head.sources}))
    return f"{printable(path)}: a fitted head\n{_facts(facts)}\n\nIt fits vectors of encoder {encoders}."


def _spec_facts(spec: Mapping[str, Any], fingerprint: str) -> dict[str, str]:
    revision = f" at {spec['revision']}" if spec["revision"] else ""
    return {
        "model": printable(f"{spec['model']}{revision}"),
        "max length": f"{spec['max_length']} tokens",
        "normaliser": printable(str(spec["normalizer"])),
        "fingerprint": fingerprint,
    }


def _versions(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items())
    return printable(f"frostline {made.get('frostline')} ({versions})")


def _listed(counts: Mapping[str, int]) -> str:
    """Give ` (a 3, b 4)`, cut where there are many."""
    if not counts:
        return ""
    shown = [f"{printable(name)} {n:,}" for name, n in list(counts.items())[:8]]
    return f" ({', '.join(shown)}{', …' if len(counts) > 8 else ''})"


def _facts(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"  {name.ljust(width)}  {printable(value)}" for name, value in facts.items())


def _wrapped(facts: Mapping[str, str]) -> str:
    """Lay out facts as `_facts` does, long ones in several lines."""
    width = max(map(len, facts))
    return "\n".join(
        textwrap.fill(
            printable(value),
            max(_COLUMNS, width + 40),
            initial_indent=f"  {printable(name).ljust(width)}  ",
            subsequent_indent=" " * (width + 4),
            break_long_words=False,  # paths are copied
            break_on_hyphens=False,
        )
        for name, value in facts.items()
    )


def _start(text: str) -> str:
    one_line = printable(" ".join(text.split()))
    return one_line if len(one_line) <= 70 else one_line[:69] + "…"
