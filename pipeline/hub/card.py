"""Write the card of a head, `README.md`: metadata for the hub, then the text for people.

In comes what the head's `config.json` says, so that the card tells nothing that the files do not;
out comes Markdown with YAML before it. What the head does not know is left out. Nothing is read or
fetched. `pipeline/hub/card_text.py` writes the sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.base.shown import NOT_UNICODE, printable
from features.errors import InputError
from pipeline.hub.card_text import sections
from pipeline.hub.record import Record

_TASK, _TASK_NAME = "text-classification", "Text Classification"
# Figures of a head that the hub has a metric for: its name there, how it is shown, its arguments.
HUB_METRICS: dict[str, tuple[str, str, dict[str, str] | None]] = {
    "macro_recall": ("recall", "Macro recall", {"average": "macro"}),
    "accuracy": ("accuracy", "Accuracy", None),
    "macro_f1": ("f1", "Macro F1", {"average": "macro"}),
}
_MOST = 200  # characters of a name in the metadata


def card_of(
    content: Mapping[str, Any],
    place: str,
    *,
    license: str | None = None,
    language: str | Sequence[str] = (),
) -> str:
    """Write the card.

    Parameters
    ----------
    content : mapping
        See `pipeline/head/folder.py`; the arrays are not looked at, but for whether they are there.
    place : str
        What the commands are given for the head: a file, a folder, or `hf:owner/name`.
    license : str, optional
        As the hub names it: `apache-2.0`.
    language : str or sequence of str
        ISO 639 codes of the languages of the tweets.

    Raises
    ------
    InputError
        A licence or language is no word of the hub's.
    """
    record = Record.of(content, place)
    languages = [language] if isinstance(language, str) else list(language)
    licenses = [] if license is None else [license]
    for name, values in (("language", languages), ("license", licenses)):
        for value in values:
            if not value.replace("-", "").replace(".", "").isalnum() or not value.isascii():
                example = "en" if name == "language" else "apache-2.0"
                raise InputError(f"`{name}` is {value!r}; give what the hub calls it: {example}")
    metadata = _metadata(record, license, languages)
    return f"---\n{metadata}\n---\n\n" + "\n\n".join(sections(record)) + "\n"


def _metadata(record: Record, license: str | None, languages: Sequence[str]) -> str:
    """Give the YAML, by the hub's own writer, which quotes what has to be."""
    from huggingface_hub import ModelCardData

    base, results = record.base_models, _results(record)
    data = ModelCardData(
        library_name="frostline",
        pipeline_tag=_TASK,
        base_model=(base[0] if len(base) == 1 else base) or None,
        tags=["frostline", "tweets", "logistic-regression"],
        license=license,
        language=(languages[0] if len(languages) == 1 else list(languages)) or None,
        datasets=record.datasets or None,
        metrics=[HUB_METRICS[name][0] for name in HUB_METRICS if name in record.figures] or None,
        model_name=_plain(record.title) if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml(line_break="\n"))


def _results(record: Record) -> list[Any]:
    from huggingface_hub import EvalResult

    # The hub wants a data set for each result; one that it does not have is of an unknown type.
    dataset = record.datasets[0] if len(record.datasets) == 1 else "unknown"
    return [
        EvalResult(
            task_type=_TASK,
            task_name=_TASK_NAME,
            dataset_type=dataset,
            dataset_name=_plain(record.judged_on),
            metric_type=kind,
            metric_name=shown,
            metric_value=record.figures[name],
            metric_args=arguments,
        )
        for name, (kind, shown, arguments) in HUB_METRICS.items()
        if name in record.figures
    ]


def _plain(text: str) -> str:
    """Give a name on one line, without what moves a cursor."""
    return printable(NOT_UNICODE.sub("\ufffd", " ".join(text.split())))[:_MOST]
