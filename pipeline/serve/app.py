"""Define the routes: requests in, scores out, as text-embeddings-inference and vLLM write them.

What is read and refused before is in `guards.py` and `reading.py`; what scores is in `scorer.py`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from features.base.arrays import Floats
from features.base.shown import listed, shown
from features.errors import FrostlineError
from pipeline.serve.explaining import explanation_of
from pipeline.serve.guards import Entrance, Guard, exchange_of
from pipeline.serve.information import head_facts, server_facts
from pipeline.serve.limits import Limits
from pipeline.serve.metrics import Metrics
from pipeline.serve.openapi import description
from pipeline.serve.pages import routes_page, trial_page
from pipeline.serve.reading import check_texts, read_body
from pipeline.serve.refusals import UNHEALTHY, Refusal, as_refusal
from pipeline.serve.schema import (
    Classification,
    ClassificationData,
    ClassifyRequest,
    Direction,
    ExplainRequest,
    Prediction,
    PredictRequest,
    Usage,
    read_request,
)
from pipeline.serve.scorer.heads import ServedHead
from pipeline.serve.scorer.scorer import Answer, Scorer

Endpoint = Callable[[Request], Awaitable[Response]]


class Service:
    """What the routes do, with what they need.

    Parameters
    ----------
    scorer : Scorer
    limits : Limits
    metrics : Metrics
    has_token : bool
        Whether clients must send one.

    Attributes
    ----------
    is_draining : bool
        Whether the server is about to end, and no longer healthy.
    """

    def __init__(
        self, scorer: Scorer, limits: Limits, metrics: Metrics, *, has_token: bool
    ) -> None:
        self.is_draining = False
        self._description = description(
            scorer.heads.by_name,
            [encoder.truncation_side for encoder in scorer.encoders],
            limits,
            has_token=has_token,
        )
        self._scorer, self._limits, self._metrics = scorer, limits, metrics
        self._heads = scorer.heads.by_name

    def routes(self) -> list[Route]:
        """Give all routes."""
        table: list[tuple[str, str, Endpoint]] = [
            ("/predict", "POST", self.predict),
            ("/classify", "POST", self.classify),
            ("/explain", "POST", self.explain),
            ("/heads/predict", "POST", self.predict_by_all),
            ("/heads/{name}/predict", "POST", self.predict),
            ("/heads/{name}/classify", "POST", self.classify),
            ("/heads/{name}/info", "GET", self.info),
            ("/info", "GET", self.info),
            ("/health", "GET", self.health),
            ("/metrics", "GET", self.counts),
            ("/openapi.json", "GET", self.description),
            ("/docs", "GET", self.routes_page),
            ("/", "GET", self.trial_page),
        ]
        return [
            Route(path, partial(_counted, path, endpoint), methods=[method])
            for path, method, endpoint in table
        ]

    async def predict(self, request: Request) -> Response:
        """Answer as text-embeddings-inference does."""
        asked = read_request(PredictRequest, await read_body(request, self._limits))
        head = self._head(request, asked.model)
        answer = await self._scored(request, asked, [head])
        return _json(_predictions(answer, head, asked), answer)

    async def predict_by_all(self, request: Request) -> Response:
        """Answer as `/predict` does, by each head."""
        asked = read_request(PredictRequest, await read_body(request, self._limits))
        if asked.model is not None:
            raise Refusal(422, "this is answered by all heads: leave `model` out")
        heads = list(self._heads.values())
        answer = await self._scored(request, asked, heads)
        return _json({head.name: _predictions(answer, head, asked) for head in heads}, answer)

    async def classify(self, request: Request) -> Response:
        """Answer as vLLM does."""
        asked = read_request(ClassifyRequest, await read_body(request, self._limits))
        head = self._head(request, asked.model)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        answer = await self._score(request, texts, [head])
        proba, labels = answer.proba(head.name), head.head.labels
        data = [
            ClassificationData(n, labels[winner], row, len(labels))
            for n, (winner, row) in enumerate(
                zip(proba.argmax(axis=1).tolist(), proba.tolist(), strict=True)
            )
        ]
        content = Classification(
            f"classify-{exchange_of(request.scope).request_id}",
            "list",
            int(time.time()),
            head.name,
            data,
            Usage(answer.tokens, answer.tokens),
        )
        return _json(content, answer)

    async def explain(self, request: Request) -> Response:
        """Say what moved the class of a text."""
        asked = read_request(ExplainRequest, await read_body(request, self._limits))
        head = self._head(request, asked.model)
        check_texts([asked.text], self._limits)
        exchange_of(request.scope).texts = 1
        try:
            return _json(await explanation_of(head, asked.text, self._scorer))
        except FrostlineError as error:
            raise as_refusal(error) from error

    async def description(self, request: Request) -> Response:
        """Describe the routes in OpenAPI."""
        return _json(self._description)

    async def routes_page(self, request: Request) -> Response:
        """Describe the routes for people."""
        return _page(*routes_page(self._description))

    async def trial_page(self, request: Request) -> Response:
        """Give the page to try heads on."""
        return _page(*trial_page())

    async def info(self, request: Request) -> Response:
        """Say what is served, and what is allowed."""
        if "name" in request.path_params:
            return _json(head_facts(self._head(request, None), self._scorer, self._limits))
        return _json(server_facts(self._scorer, self._limits))

    async def health(self, request: Request) -> Response:
        """Say whether requests are welcome."""
        if self.is_draining:
            raise Refusal(503, "the server is ending", UNHEALTHY)
        if not self._scorer.is_at_work:
            raise Refusal(503, "the server no longer runs the model", UNHEALTHY)
        return Response()

    async def counts(self, request: Request) -> Response:
        """Give the metrics."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _scored(
        self, request: Request, asked: PredictRequest, heads: Sequence[ServedHead]
    ) -> Answer:
        self._check_direction(asked.truncation_direction, heads)
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        return await self._score(request, texts, heads, whole=asked.truncate is False)

    async def _score(
        self,
        request: Request,
        texts: Sequence[str],
        heads: Sequence[ServedHead],
        *,
        whole: bool = False,
    ) -> Answer:
        check_texts(texts, self._limits)
        exchange_of(request.scope).texts = len(texts)
        try:
            answer = await self._scorer.score(
                texts,
                heads,
                whole=whole,
                is_gone=partial(_is_gone, request.scope["state"]["cycle"]),
            )
        except FrostlineError as error:
            raise as_refusal(error) from error
        self._metrics.texts.inc(len(texts))
        self._metrics.truncated.inc(len(answer.truncated))
        return answer

    def _head(self, request: Request, model: str | None) -> ServedHead:
        """Give the head that a request asks for, by its path or by its field."""
        name: str | None = request.path_params.get("name", model)
        if name is not None and model is not None and name != model:
            raise Refusal(422, f"the path asks for head {shown(name)}, `model` for {shown(model)}")
        if name is None and len(self._heads) == 1:
            return next(iter(self._heads.values()))
        if name is None:
            raise Refusal(422, f"say which head as `model`: {listed(self._heads)}")
        if name not in self._heads:
            raise Refusal(404, f"no head is named {shown(name)}: there are {listed(self._heads)}")
        return self._heads[name]

    def _check_direction(self, given: Direction | None, heads: Sequence[ServedHead]) -> None:
        """Refuse to cut texts at the other end than the heads were fitted with."""
        if given is None:
            return
        for number in {n for head in heads for n in head.encoders}:
            side = self._scorer.encoders[number].truncation_side
            if given.lower() != side:
                raise Refusal(
                    422,
                    f"texts that are too long are cut at their {side} end, as those were that the "
                    "head was fitted on; leave `truncation_direction` out",
                )


def _is_gone(cycle: weakref.ref[RequestResponseCycle]) -> bool:
    """Say whether the client of a request no longer waits for its answer."""
    found = cycle()
    return found is None or found.disconnected


async def _counted(route: str, endpoint: Endpoint, request: Request) -> Response:
    exchange_of(request.scope).route = route
    return await endpoint(request)


def application(
    service: Service, entrance: Entrance, metrics: Metrics, log: Callable[[str], None] | None
) -> Guard:
    """Put the routes behind the guard."""
    return Guard(Router(service.routes(), redirect_slashes=False), entrance, metrics, log)


def _predictions(
    answer: Answer, head: ServedHead, asked: PredictRequest
) -> list[Prediction] | list[list[Prediction]]:
    """Give the classes of each text with their scores, the first one first."""
    scores: Floats = answer.proba(head.name)
    if asked.raw_scores:
        scores = answer.logits[head.name].round(6)
    order = np.argsort(-scores, axis=1, kind="stable")[:, asked.classes]
    labels = head.head.labels
    found = [
        [Prediction(labels[k], row[k]) for k in of_row]
        for row, of_row in zip(scores.tolist(), order.tolist(), strict=True)
    ]
    return found[0] if asked.is_single else found


def _page(page: str, policy: str) -> Response:
    return Response(page, headers={"content-security-policy": policy}, media_type="text/html")


def _json(content: Any, answer: Answer | None = None) -> Response:
    """Give JSON, and in headers what is odd about texts, by their numbers."""
    headers = {}
    if answer is not None:
        headers["x-compute-tokens"] = str(answer.tokens)
        for name in ("truncated", "empty", "repaired"):
            numbers: list[int] = getattr(answer, name)
            if numbers:
                headers[f"x-{name}-texts"] = ",".join(map(str, numbers))
    return Response(msgspec.json.encode(content), headers=headers, media_type="application/json")
