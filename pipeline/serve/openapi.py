"""Describe the routes in OpenAPI 3.1: for programs as JSON, and for the page `/docs`.

Requests and answers are described by the records that read and write them (`schema.py`), with the
limits and the heads of this server.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import msgspec

from features.version import __version__
from pipeline.serve.limits import Limits
from pipeline.serve.schema import (
    Classification,
    ClassifyRefused,
    ClassifyRequest,
    ExplainRequest,
    Prediction,
    PredictRequest,
    Refused,
)

_PREFIX = "#/components/schemas/"
_REASONS = {
    400: "The body is no JSON, or the request no HTTP",
    401: "The token is missing or wrong",
    403: "A web page of another origin asks",
    404: "There is no such head",
    408: "The body did not come in time",
    413: "Too many texts, or a text or body that is too long",
    415: "The body is not sent as JSON, or is compressed",
    421: "The server is asked by a name that is not its own",
    422: "A field is unknown, or not what it should be",
    424: "The model can't read a text",
    429: "Too many texts are waiting",
    500: "The server failed",
    503: "The server is ending, or has all the connections that it takes",
}
_GUARDED = (401, 403, 421, 500, 503)
_ODD = {
    "x-truncated-texts": "The numbers, from 0 on, of texts of which only the beginning was read",
    "x-empty-texts": "Of texts without any word",
    "x-repaired-texts": "Of texts with what is no Unicode, which became U+FFFD",
}


def description(
    heads: Collection[str], sides: Collection[str], limits: Limits, *, has_token: bool
) -> dict[str, Any]:
    """Give the document.

    Parameters
    ----------
    heads : collection of str
        Their names.
    sides : collection of str
        The ends at which the encoders cut texts that are too long.
    limits : Limits
    has_token : bool
        Whether clients must send one.
    """
    schemas = _schemas(list(heads), list(sides), limits)
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": list(heads)},
    }
    prediction = _ref("Prediction")
    one = {"type": "array", "items": prediction}
    scores = {"anyOf": [one, {"type": "array", "items": one}]}
    by_head = {"type": "object", "additionalProperties": scores}
    paths: dict[str, Any] = {
        "/predict": {"post": _post("PredictRequest", scores, "Classes of texts, with scores")},
        "/classify": {
            "post": _post("ClassifyRequest", _ref("Classification"), "Classes of texts, as vLLM")
        },
        "/explain": {
            "post": _post("ExplainRequest", {"type": "object"}, "What moved the class of a text")
        },
        "/heads/predict": {"post": _post("PredictOfHead", by_head, "Scores of all heads")},
        "/heads/{name}/predict": {
            "parameters": [name],
            "post": _post("PredictOfHead", scores, "Classes of texts by one of the heads"),
        },
        "/heads/{name}/classify": {
            "parameters": [name],
            "post": _post("ClassifyOfHead", _ref("Classification"), "The same, as vLLM"),
        },
        "/heads/{name}/info": {
            "parameters": [name],
            "get": _get({"application/json": {"schema": {"type": "object"}}}, "A head", 404),
        },
        "/info": {
            "get": _get({"application/json": {"schema": {"type": "object"}}}, "What is served")
        },
        "/health": {"get": _get({}, "Whether requests are welcome")},
        "/metrics": {
            "get": _get({"text/plain": {"schema": {"type": "string"}}}, "Counts, for Prometheus")
        },
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "frostline", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if has_token:
        scheme = {"type": "http", "scheme": "bearer"}
        found["components"]["securitySchemes"] = {"token": scheme}
        found["security"] = [{"token": []}]
        paths["/health"]["get"]["security"] = []
    return found


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _PREFIX + name}


def _schemas(heads: list[str], sides: list[str], limits: Limits) -> dict[str, Any]:
    kinds = [
        PredictRequest,
        ClassifyRequest,
        ExplainRequest,
        Prediction,
        Classification,
        Refused,
        ClassifyRefused,
    ]
    _, found = msgspec.json.schema_components(kinds, ref_template=_PREFIX + "{name}")
    schemas = {name.rpartition(".")[2]: copy.deepcopy(one) for name, one in found.items()}
    text = {
        "type": "string",
        "maxLength": limits.max_text_bytes,  # as characters of one byte; others have more
        "description": f"At most {limits.max_text_bytes:,} bytes in UTF-8",
    }
    texts = {
        "type": "array",
        "items": text,
        "minItems": 1,
        "maxItems": limits.max_client_batch_size,
    }
    for name, field in (("PredictRequest", "inputs"), ("ClassifyRequest", "input")):
        schemas[name]["properties"][field] = {"anyOf": [text, texts]}
    schemas["ExplainRequest"]["properties"]["text"] = text
    # Where encoders differ, none can be asked for.
    side = sides[0] if len(set(sides)) == 1 else ""
    ends = [side.capitalize(), side, None] if side else [None]
    schemas["PredictRequest"]["properties"]["truncation_direction"] = {
        "enum": ends,
        "default": None,
    }
    for name in ("PredictRequest", "Parameters"):
        schemas[name]["properties"]["top_k"] = {
            "type": ["integer", "null"],
            "minimum": 1,
            "default": None,
        }
    schemas["PredictOfHead"] = copy.deepcopy(schemas["PredictRequest"])
    schemas["ClassifyOfHead"] = copy.deepcopy(schemas["ClassifyRequest"])
    for name in ("PredictOfHead", "ClassifyOfHead"):
        del schemas[name]["properties"]["model"]
    for name in ("PredictRequest", "ClassifyRequest", "ExplainRequest"):
        if len(heads) == 1:
            schemas[name]["properties"]["model"] = {"enum": [*heads, None], "default": None}
        else:
            schemas[name]["properties"]["model"] = {"enum": heads}
            schemas[name]["required"] = [*schemas[name]["required"], "model"]
    return schemas


def _post(request: str, answer: dict[str, Any], summary: str) -> dict[str, Any]:
    refused = "ClassifyRefused" if request.startswith("Classify") else "Refused"
    responses: dict[str, Any] = {
        "200": {
            "description": summary,
            "content": {"application/json": {"schema": answer}},
            "headers": {
                name: {"description": said, "schema": {"type": "string"}}
                for name, said in _ODD.items()
            },
        }
    }
    for status in (400, 404, 408, 413, 415, 422, 424, 429):
        responses[str(status)] = _refusal(status, refused)
    retry = {"description": "Seconds to wait", "schema": {"type": "integer"}}
    responses["429"]["headers"] = {"retry-after": retry}
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(request)}},
        },
        "responses": responses | {str(status): _refusal(status, refused) for status in _GUARDED},
    }


def _get(content: dict[str, Any], summary: str, *statuses: int) -> dict[str, Any]:
    answer = {"description": summary} | ({"content": content} if content else {})
    refused = {str(status): _refusal(status, "Refused") for status in (*statuses, *_GUARDED)}
    return {"summary": summary, "responses": {"200": answer, **refused}}


def _refusal(status: int, schema: str) -> dict[str, Any]:
    return {
        "description": _REASONS[status],
        "content": {"application/json": {"schema": _ref(schema)}},
    }
