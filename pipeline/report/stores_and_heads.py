"""Say what files hold and where they come from: stores, heads and scores, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.base.shown import printable, size
from features.extraction.summary import ExtractSummary
from features.pieces.part import PartSummary
from features.spec.vector_spec import VectorSpec
from features.store.joined.join import SoFar
from features.store.joined.layout import ranges
from features.store.reader import FeatureStore
from pipeline.data.matching import Matching
from pipeline.head.head import Head
from pipeline.report.layout import columns, counts_text, facts_text, table_with_texts
from pipeline.report.metrics import prior_in_words
from pipeline.scoring.output_files import Written

# Inputs that are named, before the others are counted.
_INPUTS = 20


def extract_text(summary: ExtractSummary) -> str:
    """Say what a run of `extract` did."""
    s = summary
    views = ", ".join(f"{view} ({width})" for view, width in s.views.items())
    facts: dict[str, str] = {
        "rows": f"{s.rows:,}" + counts_text(s.labels),
        "unique texts": f"{s.unique:,} ({s.encoded:,} encoded in this run"
        + (f", {s.resumed:,} in one that was interrupted)" if s.resumed else ")"),
        "tokens": f"{s.tokens:,} ({s.tokens / s.rows:.1f} a tweet)",
        "flagged": f"{s.truncated:,} truncated, {s.empty:,} empty, {s.repaired:,} repaired",
        **{
            f"read {printable(name)}" if len(s.read) > 1 else "read": printable(how)
            for name, how in s.read.items()
        },
        "rejected": f"{s.rejected:,}" + (f", listed in {s.rejects_file}" if s.rejects_file else ""),
        "views": views,
        "encoder": f"{printable(s.model)}, {s.precision} precision"
        + (f" ({s.compute})" if s.compute else ""),
        **({"chosen": s.chosen} if s.chosen else {}),
    }
    if s.outcome == "unchanged":
        return (
            f"{printable(str(s.output))} is up to date: same input, same encoder; nothing was "
            f"done\n{facts_text(facts)}"
        )
    parts = ", ".join(
        f"{part} {s.seconds[part]:.2f}" for part in ("read", "tokenise", "forward", "write")
    )
    facts["seconds"] = f"{s.seconds['total']:.2f} (load {s.seconds['load']:.2f}, {parts})"
    facts["speed"] = f"{s.tweets_per_second:,.0f} tweets/s, without loading the model"
    if s.gflops:
        facts["forward"] = f"{s.gflops:,.0f} useful GFLOP/s"
    facts["file"] = f"{s.output}, {size(s.file_bytes)}"
    # An input may have become shorter as well, so this says no more than that vectors were kept.
    verb = "updated" if s.outcome == "extended" else "written"
    return f"{printable(str(s.output))} {verb}\n" + facts_text(facts)


def part_text(summary: PartSummary) -> str:
    """Say what a job has made of a store, what others still have to make, and how."""
    s = summary
    store = printable(str(s.output))
    whose = f"part {s.part} of {store}" if s.workers is None else store
    by = f" by {s.workers:,} worker{'s' * (s.workers > 1)}" if s.workers else ""
    done = (
        f"{whose} is finished: {s.pieces:,} of {s.of_pieces:,} pieces "
        f"({s.made:,} made in this run{by}), {s.rows:,} rows"
        + (f", {s.rejected:,} rejects" if s.rejected else "")
    )
    if not s.missing:
        return f"{done}; the store is whole"
    parts = sorted({piece % s.part.of for piece in s.missing})
    others = "1 piece is" if len(s.missing) == 1 else f"{len(s.missing):,} pieces are"
    return (
        f"{done}; {others} missing ({ranges(s.missing)}): unless jobs are at work "
        f"on them, run the same command with --part i/{s.part.of} for i = {ranges(parts)}"
    )


def predict_text(written: Written, output: str, rejected: int, rejects_file: object) -> str:
    """Say what was scored, and show the first rows."""
    facts = {"rows": f"{written.rows:,}" + counts_text(written.counts), "file": output}
    if rejected:
        facts["rejected"] = f"{rejected:,}, listed in {rejects_file}"
    text = f"{printable(output)} written\n" + facts_text(facts)
    if written.first:
        named = [name for name in written.first[0] if name.startswith("p_")]
        if _is_too_wide(named):
            rows: list[list[object]] = [["label", "p"]]
            rows += [
                [row["label"], f"{max(row[name] for name in named):.3f}"] for row in written.first
            ]
        else:
            rows = [["label", *named]]
            rows += [
                [row["label"], *(f"{row[name]:.3f}" for name in named)] for row in written.first
            ]
        tweets = [_start(row.get("text", row["id"])) for row in written.first]
        text += "\n\n" + table_with_texts(rows, ["tweet", *(f"  {tweet}" for tweet in tweets)])
    return text


def _is_too_wide(named: Sequence[str]) -> bool:
    """Say whether the probabilities of all classes leave no room for tweets on a terminal."""
    room = columns()
    return room is not None and 3 * sum(len(name) + 2 for name in named) > 2 * room


def store_text(store: FeatureStore) -> str:
    """Say what a store holds and where it came from."""
    made = store.provenance[0]
    facts = {
        "rows": f"{store.n_rows:,}" + counts_text(store.label_counts()),
        "shards": f"{store.n_shards:,}"
        + (f" in {store.n_pieces:,} pieces" if store.n_pieces else ""),
        "views": ", ".join(f"{view} ({width})" for view, width in store.views.items()),
        "precision": f"{store.precision}, stored as {store.store_dtype}",
        **_spec_facts(store.spec.to_dict(), store.fingerprint),
        "made from": _named(made.get("inputs", [])),
        "made by": _versions(made),
    }
    return (
        f"{printable(str(store))}: cached vectors\n{facts_text(facts)}\n\n"
        f"It fits heads of encoder {store.fingerprint[:12]}."
    )


def unjoined_text(there: SoFar, path: str) -> str:
    """Say what is there of a store that is made in pieces, what is missing, and what to do."""
    found = there.found
    facts = {
        "pieces": f"{len(found.finished):,} of {found.order.pieces:,}",
        "missing": ranges(found.missing) or "none",
        "rows": f"{there.rows:,} so far",
        "rejected": f"{there.rejects:,} so far",
        "files": f"{size(there.bytes)} so far",
        "made from": _named(found.order.inputs),
    }
    if found.missing:
        cure = found.lacking(path)
    else:
        cure = f"All pieces are there: `frostline verify {path}` joins them"
    return printable(path) + f": a store in the making\n{facts_text(facts)}\n\n{printable(cure)}."


def head_text(head: Head, path: str) -> str:
    """Say what a head is, what it takes, and how it was measured."""
    meta = head.metadata
    facts = {"labels": printable(", ".join(head.labels))}
    facts["takes"] = " + ".join(views_of(head))
    for number, sources in enumerate(head.encoders, 1):
        spec = _spec_facts(sources[0].spec.to_dict(), sources[0].spec.fingerprint)
        spec["precision"] = str(sources[0].precision)
        several = f" ({number})" if len(head.encoders) > 1 else ""
        facts |= {f"{name}{several}": value for name, value in spec.items()}
    facts["fitted on"] = (
        f"{meta.get('rows', 0):,} rows, C = {meta.get('C')}, "
        f"class weight {meta.get('class_weight')}"
    )
    if isinstance(record := meta.get("corrections"), dict):
        facts["corrected"] = _corrected(record)
    if isinstance(meta.get("gap"), float):
        facts["certificate"] = f"within {meta['gap']:.1e} of the optimum, relatively"
    if head.prior is not None:
        facts["prior"] = prior_in_words(head.labels, head.prior.tolist())
    metrics = meta.get("metrics") or {}
    if "macro_recall" in metrics:
        facts["macro recall"] = (
            f"{metrics['macro_recall']:.4f} on {printable(str(meta.get('measured_on')))}"
        )
    facts["made by"] = _versions(meta)
    encoders = ", ".join(sorted({source.spec.fingerprint[:12] for source in head.sources}))
    return (
        f"{printable(path)}: a fitted head\n{facts_text(facts)}\n\n"
        f"It fits vectors of encoder {encoders}."
    )


def _corrected(record: Mapping[str, Any]) -> str:
    """Say how many labels were corrected, and by which files; a stranger may have written it."""
    rows = [record.get(name) for name in ("changed", "labelled")]
    files = record.get("files")
    named = [
        f"{one.get('name')} (SHA-256 {str(one.get('sha256'))[:12]})"
        for one in (files if isinstance(files, list) else [])
        if isinstance(one, dict)
    ]
    return f"{rows[0]} labels changed, {rows[1]} given, by {', '.join(named) or 'no file'}"


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


def views_of(head: Head) -> list[str]:
    """Name the views of a head, with the numbers of their encoders if there are several."""
    number = {one[0].spec.fingerprint: f"{n}:" for n, one in enumerate(head.encoders, 1)}

    def name(source: VectorSpec) -> str:
        prefix = number[source.spec.fingerprint] if len(number) > 1 else ""
        return f"{prefix}{source.view} ({source.width})"

    return [name(source) for source in head.sources]


def _named(inputs: Sequence[object]) -> str:
    """Name the first inputs, and count the others."""
    rest = len(inputs) - _INPUTS
    return printable(", ".join(map(str, inputs[:_INPUTS]))) + (
        f" and {rest:,} more" if rest > 0 else ""
    )


def _spec_facts(spec: Mapping[str, Any], fingerprint: str) -> dict[str, str]:
    revision = f" at {spec['revision']}" if spec["revision"] else ""
    return {
        "model": printable(f"{spec['model']}{revision}"),
        "max length": f"{spec['max_length']} tokens",
        "normaliser": printable(str(spec["normalizer"])),
        **({"prefix": printable(repr(spec["prefix"]))} if spec.get("prefix") else {}),
        "fingerprint": fingerprint,
    }


def _versions(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items())
    return printable(f"frostline {made.get('frostline')} ({versions})")


def _start(text: str) -> str:
    one_line = printable(" ".join(text.split()))
    return one_line if len(one_line) <= 70 else one_line[:69] + "…"
