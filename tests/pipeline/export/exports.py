"""Heads to export, and what reads an export: ONNX Runtime, tokenizers and numpy alone."""

from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

from features.backends.choice import Runtime
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.pooling import parse_pooling
from features.spec.vector_spec import VectorSpec
from pipeline.head.head import Head
from pipeline.scoring.predict import encode_for, encoders_for

VIEWS = (
    "cls",
    "mean",
    "mean-content",
    "max",
    "mean@0",
    "cls@-2",
    "max@1",
    "mean@last2+sum",
    "mean-content@all+mean",
    "cls@1:3+concat",
    "max@last2+concat",
    "max@last2+mean",
)
# Pieces in which each rule begins, ends and fails; letters that are others in capitals, and blanks
# that are some to Python alone.
PIECES = (
    *("http://", "https://", "HTTPſ://", "http", "www.", "WWW.", "www...", "t.co/", "T.CO/x"),
    *("pic.twitter.com/", "pİc.twıtter.com/", "@", "＠", "user", "@user", "5", "10k", "7pm"),
    *("hrs", "hr", "ish", "_", "é", "\u0301", "\u0345", "ɏ", "&amp;", "&lt;", "&gt;", "&quot;"),
    *("&#39;", "&#x27;", "&apos;", "&AMP;", "&hellip;", "&#8217;", "&#0;", "&#x110000;", "&#1;"),
    *("&notit;", "&num;", "&semi;", "lt;", "amp;", "#38;", "&", "#", ";", r"\u2019", r"\U2019"),
    *(r"\ud83d\ude00", r"\ud83d", r"\u0007", " ", "\t", "\n", "\x1c", "\x85", "\u200b", "\ufeff"),
    *("\u2028", "<", ">", '"', "“", "”", ".", ",", ":", "!", "?", "'", "’", ")", "]", "}", "…"),
    *("/", "-", "a", "B", "Z9", "中", "²", "Ⅷ", "़", "😀", "\u200d", "ſ", "K", "$AAPL", "a@b.org"),
)


def head_on(
    model,
    views,
    *,
    n_layers,
    width,
    sentence_width=None,
    store_dtype="float32",
    labels=None,
    **spec,
) -> Head:
    """Give a head with random weights, of which each class looks at one view alone."""
    made = make_spec(find_checkpoint(model), **spec)
    widths = {view: sentence_width or parse_pooling(view).width(n_layers, width) for view in views}
    sources = tuple(VectorSpec(made, {v: w}, "float32", store_dtype) for v, w in widths.items())
    labels = labels or [f"class {number}" for number in range(max(2, len(views)))]
    rng, columns = np.random.default_rng(3), np.repeat(np.arange(len(views)), [*widths.values()])
    coef = np.zeros((len(labels), len(columns)))
    for number in range(len(labels)):
        own = columns == number % len(views)
        coef[number, own] = rng.normal(size=own.sum()) / np.sqrt(own.sum())
    metadata = {"prior": [1 / len(labels)] * len(labels), "class_rows": [5] * len(labels)}
    return Head(tuple(labels), coef, rng.normal(size=len(labels)), sources, metadata)


def expected(head, texts) -> np.ndarray:
    """The probabilities of `predict` in float32, (N, K)."""
    encoders = encoders_for(head, runtime=Runtime(backend="torch"))
    return head.predict_proba(encode_for(head, texts, encoders))


class Exported:
    """An export, read as another program would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        scope = {"__name__": "prepare"}
        exec((folder / "prepare.py").read_text(encoding="utf-8"), scope)
        self.prepare = scope["prepare"]

    def ids(self, texts):
        return self.tokenizer.encode_batch([self.prepare(text) for text in texts])

    def run(self, ids, mask) -> np.ndarray:
        """Probabilities (N, K); they are the softmax of the logits."""
        given = {"input_ids": np.array(ids, np.int64), "attention_mask": np.array(mask, np.int64)}
        found, logits = self.session.run(["probabilities", "logits"], given)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), atol=1e-6)
        return found

    def score(self, texts) -> np.ndarray:
        read = self.ids(texts)
        return self.run([one.ids for one in read], [one.attention_mask for one in read])
