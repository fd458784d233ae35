"""Write the sections of a card that people read: a `Record` in, Markdown out.

All that comes from a head is escaped, so that it can make no heading, link, table or HTML. A figure
that the head does not know is left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

from features.base.markdown import escaped, table
from features.base.shown import NOT_UNICODE, printable
from pipeline.hub.record import Record, count, hub_id, mapping, number, sequence, text

_LISTED = 30  # classes in a table
# How the other figures of a head are shown; the first ones have names on the hub as well.
FIGURES = {
    "macro_recall": "macro recall",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log-loss, in nats",
    "calibration_error": "calibration error",
}
_TEXTS = ("so happy for you two", "the queue was a nightmare")


def sections(record: Record) -> Iterator[str]:
    """Give the parts of the text, to be joined by an empty line."""
    yield f"# {escaped(record.title)}"
    yield _summary(record)
    yield "## How to use it"
    yield from _use(record)
    if record.figures:
        yield "## Results"
        yield from _results(record)
    yield "## Data"
    yield from _data(record)
    yield "## How it was made"
    yield "\n".join(f"- {line}" for line in _made(record))
    yield "## Limits"
    yield "\n".join(f"- {line}" for line in _limits(record))
    yield "## What the files tell of the data"
    yield _tells(record)


def _summary(record: Record) -> str:
    shown = ", ".join(escaped(label, 60) for label in record.labels[:_LISTED])
    more = len(record.labels) - _LISTED
    return (
        "A head of frostline: a multinomial logistic regression that labels tweets as "
        f"{shown}{f' and {more:,} more' if more > 0 else ''}. It takes the pooled vectors of a "
        f"frozen encoder, {' and '.join(_encoder(record))}, which is not part of these files."
    )


def _encoder(record: Record) -> list[str]:
    """Name the encoders; those that the hub has are links."""
    names = []
    for spec in record.encoders:
        found = hub_id(spec)
        link = f"[{found}](https://huggingface.co/{found})"
        names.append(escaped(spec.model) if found is None else link)
    return names


def _use(record: Record) -> Iterator[str]:
    place = _on_one_line(record.place)
    local = [spec.model for spec in record.encoders if hub_id(spec) is None]
    given = "".join(f" --model {shlex.quote(_on_one_line(spec.model))}" for spec in record.encoders)
    head = f"{shlex.quote(place)}"
    if local:
        yield (
            "The encoder is not on the hub: `--model` says where it lies, and frostline checks "
            "that it is the very one."
        )
    extra = given if local else ""
    lines = [
        f"frostline predict {head} tweets.csv -o labelled.csv{extra}",
        f"frostline evaluate {head} labelled_tweets.csv{extra}",
        f"frostline explain {head} {shlex.quote(_TEXTS[0])}{extra}",
    ]
    yield "With frostline installed:"
    yield "```bash\n" + "\n".join(lines) + "\n```"
    yield "From Python:"
    models = json.dumps([_on_one_line(spec.model) for spec in record.encoders])
    yield (
        "```python\n"
        "import pandas as pd\n\n"
        "from pipeline import predict\n\n"
        f'tweets = pd.DataFrame({{"text": {json.dumps(list(_TEXTS))}}})\n'
        f"print(predict({json.dumps(place)}, tweets{f', models={models}' if local else ''}))\n"
        "```"
    )


def _results(record: Record) -> Iterator[str]:
    rows = "" if record.judged is None else f" ({record.judged:,} rows)"
    yield f"Measured on {escaped(record.judged_on, None)}{rows}."
    lines: list[list[object]] = []
    for name, shown in FIGURES.items():
        if name in record.figures:
            interval = record.interval if name == "macro_recall" else None
            between = "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
            lines.append([shown, record.figures[name], between])
    if lines:
        yield table(["figure", "value", "95 % interval"], lines)
    of_classes: list[list[object]] = [
        [one.label, one.judged or 0, one.precision, one.recall, one.f1]
        for one in record.classes
        if None not in (one.precision, one.recall, one.f1)
    ]
    if of_classes:
        yield table(["class", "rows", "precision", "recall", "F1"], of_classes[:_LISTED])
        yield from _more(of_classes)


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > _LISTED:
        yield f"And {len(rows) - _LISTED:,} classes more."


def _data(record: Record) -> Iterator[str]:
    lines = []
    if record.fitted is not None:
        lines.append(f"Fitted on {record.fitted:,} labelled rows.")
    if record.unlabelled:
        lines.append(f"{record.unlabelled:,} rows without a label were left out.")
    for one in record.data:
        named = ", ".join(f"`{_in_code(name)}`" for name in one.inputs) or "unnamed inputs"
        of = "" if one.rows is None else f", {one.rows:,} rows"
        digest = "".join(f", digest of ids, texts and labels {escaped(d)}" for d in one.digests)
        lines.append(f"Vectors of {named}{of}{digest}.")
    conflicts = mapping(record.said.get("conflicts"))
    if count(conflicts.get("texts")):
        lines.append(f"{conflicts['texts']:,} texts came with several labels.")
    corrections = mapping(record.said.get("corrections"))
    if count(corrections.get("changed")):
        lines.append(f"{corrections['changed']:,} labels were corrected by hand.")
    yield "\n".join(f"- {line}" for line in lines or ["The head does not say."])
    rows: list[list[object]] = [
        [one.label, one.fitted, f"{one.share:.3f}" if one.share is not None else "unknown"]
        for one in record.classes
        if one.fitted is not None
    ]
    if rows:
        yield table(["class", "rows", "share that probabilities answer for"], rows[:_LISTED])
        yield from _more(rows)


def _made(record: Record) -> Iterator[str]:
    said = record.said
    for spec in record.encoders:
        yield (
            f"Encoder {escaped(spec.model)}"
            + (f" at {escaped(spec.revision)}" if spec.revision else "")
            + f", fingerprint `{spec.fingerprint}`: {spec.max_length} tokens, normaliser "
            f"{escaped(spec.normalizer)}"
            + (f", prefix {escaped(spec.prefix)}" if spec.prefix else "")
            + (f", {escaped(spec.quantization)}" if spec.quantization != "none" else "")
        )
    views = ", ".join(f"`{_in_code(view)}` ({width:,} columns)" for view, width in record.views)
    yield f"Views: {views}"
    if (C := number(said.get("C"))) is not None:
        tried = [number(mapping(one).get("C")) for one in sequence(said.get("grid"))]
        grid = ", ".join(f"{one:g}" for one in tried if one is not None)
        among = f", chosen by {escaped(said.get('metric'))} among {grid}" if len(tried) > 1 else ""
        yield f"C = {C:g}{among}"
    for name, shown in (("class_weight", "class weights"), ("seed", "seed")):
        if said.get(name) is not None:
            yield f"{shown.capitalize()}: {escaped(said[name])}"
    versions = {"frostline": said.get("frostline"), **mapping(said.get("versions"))}
    if known := [f"{name} {one}" for name, one in versions.items() if text(one)]:
        yield f"Versions: {escaped(', '.join(known))}"
    if made_on := list(dict.fromkeys(one.made_on for one in record.data if one.made_on)):
        yield f"Vectors computed by {escaped('; '.join(made_on))}"
    if processor := text(said.get("processor")):
        yield f"Fitted on {escaped(processor)}"


def _limits(record: Record) -> Iterator[str]:
    calibration = mapping(record.said.get("calibration"))
    method = text(calibration.get("method"))
    if method in (None, "none"):
        yield "The probabilities were not calibrated: take their order, not their size."
    else:
        yield (
            f"The probabilities were calibrated ({escaped(method)}) on held-out rows of the "
            "training tweets; on tweets of another kind they can be off."
        )
    yield (
        "They answer for the shares of the classes in the table above. Where yours are others, "
        "`--prior` moves them, and `frostline quantify` estimates shares: counts are biased."
    )
    yield (
        "It answers whatever it is asked. "
        + (
            "`frostline predict --novelty` tells how far a tweet lies from the training tweets."
            if record.tells_novelty
            else "It can't tell how far a tweet lies from the training tweets."
        )
    )
    length = min((spec.max_length for spec in record.encoders), default=0)
    yield f"Of a tweet no more than {length} tokens are read."
    yield (
        "A linear head weighs what the encoder has put into the vector. What is not there, such as "
        "a language or a topic that the encoder has never seen, it can't find."
    )
    found = [one for one in record.classes if one.recall is not None and one.judged]
    if found:
        worst = min(found, key=lambda one: one.recall or 0.0)
        yield f"Found least: {escaped(worst.label, 60)}, recall {worst.recall:.4f}."


def _tells(record: Record) -> str:
    kept = (
        f"They keep digests of {record.digests:,} training texts: whoever has the very text of a "
        "tweet can see that it is among them."
        if record.digests
        else "No digests of training texts are in them."
    )
    means = " The means of the classes' vectors are in them." if record.tells_novelty else ""
    return f"No text of a tweet can be read from the files. {kept}{means}"


def _on_one_line(words: str) -> str:
    return printable(NOT_UNICODE.sub("\ufffd", words))


def _in_code(words: str) -> str:
    """Show text between backticks, which it can't end."""
    return " ".join(_on_one_line(words).replace("`", "'").split())
