"""Say what is served, in the fields of text-embeddings-inference's `/info` and some more."""

from __future__ import annotations

from typing import Any

from features.version import __version__
from pipeline.serve.limits import Limits
from pipeline.serve.scorer.heads import ServedHead
from pipeline.serve.scorer.scorer import Scorer


def server_facts(scorer: Scorer, limits: Limits) -> dict[str, Any]:
    """Give what is known of the server; of its head too, where it is one."""
    heads = list(scorer.heads.by_name.values())
    facts = _limits(scorer, limits, list(range(len(scorer.encoders))))
    if len(heads) == 1:
        facts |= head_facts(heads[0], scorer, limits)
    return facts | {"heads": [_of_head(head, scorer) for head in heads]}


def head_facts(head: ServedHead, scorer: Scorer, limits: Limits) -> dict[str, Any]:
    """Give what is known of a head, in the fields of text-embeddings-inference."""
    first = head.head.encoders[0][0].spec
    labels = head.head.labels
    return {
        "model_id": head.name,
        "model_sha": first.revision,
        "model_dtype": scorer.encoders[head.encoders[0]].dtype,
        "model_type": {
            "classifier": {
                "id2label": {str(n): label for n, label in enumerate(labels)},
                "label2id": {label: n for n, label in enumerate(labels)},
            }
        },
        **_limits(scorer, limits, head.encoders),
    }


def _limits(scorer: Scorer, limits: Limits, encoders: list[int]) -> dict[str, Any]:
    used = [scorer.encoders[number] for number in encoders]
    return {
        "max_concurrent_requests": limits.max_connections,
        "max_input_length": min(one.spec.max_length for one in used),
        "max_batch_tokens": min(one.choice.max_batch_tokens for one in used),
        "max_batch_requests": None,
        "max_client_batch_size": limits.max_client_batch_size,
        "max_text_bytes": limits.max_text_bytes,
        "max_body_bytes": limits.max_body_bytes,
        "max_queue": limits.max_queue,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
    }


def _of_head(head: ServedHead, scorer: Scorer) -> dict[str, Any]:
    prior = head.head.prior
    return {
        "name": head.name,
        "labels": list(head.head.labels),
        "prior": None if prior is None else prior.tolist(),
        "encoders": [
            {
                "model": sources[0].spec.model,
                "fingerprint": sources[0].spec.fingerprint,
                "views": [source.view for source in sources],
                "max_length": sources[0].spec.max_length,
                "backend": scorer.encoders[number].choice.candidate.backend,
                "dtype": scorer.encoders[number].dtype,
                "device": scorer.encoders[number].device,
            }
            for number, sources in zip(head.encoders, head.head.encoders, strict=True)
        ],
    }
