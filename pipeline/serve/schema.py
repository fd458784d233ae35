"""Say what requests and answers look like, and read requests.

`/predict` speaks as text-embeddings-inference does, `/classify` as vLLM. One thing differs: a list
of texts is a batch, never a pair, because a head reads single texts. What a request holds beside
the fields that are named here is refused by name, not ignored.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from features.base.shown import shown
from pipeline.serve.refusals import Refusal

T = TypeVar("T")

Texts = Annotated[list[str], Meta(min_length=1)]
Direction = Literal["Right", "Left", "right", "left"]


class Parameters(Struct, forbid_unknown_fields=True):
    """What clients of Hugging Face's inference send beside the inputs."""

    top_k: int | float | None = None
    function_to_apply: Literal["softmax", "none"] | None = None


class PredictRequest(Struct, forbid_unknown_fields=True):
    """Texts to be scored; `inputs` is a text, or a list of texts.

    With `parameters` it is a request of Hugging Face's inference, whose answer is a list of lists
    for a single text too.
    """

    inputs: str | Texts
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool = False
    top_k: int | float | None = None
    parameters: Parameters | None = None

    def __post_init__(self) -> None:
        """Take `3.0` for 3, as JSON does, and what `parameters` say."""
        if self.parameters is not None:
            self.raw_scores |= self.parameters.function_to_apply == "none"
            self.top_k = self.parameters.top_k if self.top_k is None else self.top_k
        if self.top_k is not None and (self.top_k < 1 or self.top_k != int(self.top_k)):
            raise ValueError("Expected a whole number >= 1 - at `$.top_k`")

    @property
    def classes(self) -> slice:
        """Those of a text that are asked for, where the first one is first."""
        return slice(None if self.top_k is None else int(self.top_k))

    @property
    def is_single(self) -> bool:
        """Whether the answer is that of one text, and no list of such."""
        return isinstance(self.inputs, str) and self.parameters is None


class Prediction(Struct):
    """A class, and its probability or, of raw scores, its logit."""

    label: str
    score: float


class ClassifyRequest(Struct, forbid_unknown_fields=True):
    """Texts to be classified; `input` is a text, or a list of texts."""

    input: str | Texts
    model: str | None = None
    user: str | None = None


class ClassificationData(Struct):
    """A text: its class, and the probabilities of all of them in the order of the head."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class Usage(Struct):
    """The tokens that were read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class Classification(Struct):
    """The answer of `/classify`."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ClassificationData]
    usage: Usage


class ExplainRequest(Struct, forbid_unknown_fields=True):
    """A text to be explained."""

    text: str
    model: str | None = None


class Refused(Struct):
    """Why there is no answer, as text-embeddings-inference says it."""

    error: str
    error_type: str


class Reason(Struct):
    """What was wrong."""

    message: str
    type: str
    param: None
    code: int


class ClassifyRefused(Struct):
    """Why there is no answer, as vLLM says it."""

    error: Reason


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (PredictRequest, ClassifyRequest, ExplainRequest)
}
# Half of a character that UTF-16 writes as two, as JSON escapes it.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def read_request(kind: type[T], body: bytes) -> T:
    """Read a request from JSON.

    Raises
    ------
    Refusal
        400 where it is no JSON, 422 where it is something else than asked for.
    """
    try:
        found: T = _DECODERS[kind].decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(422, _unlike(kind, error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _HALF.search(body):
            return _with_halves(kind, body)
        raise Refusal(400, f"the body is no JSON in UTF-8: {error}") from error
    return found


def _with_halves(kind: type[T], body: bytes) -> T:
    """Read JSON in which half characters may be escaped, which become U+FFFD as in `predict`."""
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise Refusal(422, _unlike(kind, error)) from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON in UTF-8: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _unlike(kind: type[Any], error: msgspec.ValidationError) -> str:
    """Say what is wrong with a request, and what it may hold."""
    fields = ", ".join(kind.__struct_fields__)
    return f"{_short(str(error))}; the fields are {fields}"


def _short(reason: str) -> str:
    """Give what msgspec says, whose words may hold names that a client has sent."""
    return reason if len(reason) < 200 else shown(reason)
