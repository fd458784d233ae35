"""From tweets to labels through the command line, with other models than the default."""

import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import BertConfig, BertModel

from features import FeatureStore
from pipeline.cli.commands import main


@pytest.fixture(scope="module")
def bert_base(tmp_path_factory, minilm):
    """The last 4 layers of BERT-base's shape, random, with MiniLM's (BERT's) vocabulary.

    All 12 are in `tests/features/encoder/test_encoder.py`.
    """
    folder = tmp_path_factory.mktemp("bert-base")
    torch.manual_seed(0)
    BertModel(BertConfig(num_hidden_layers=4)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).write_bytes((minilm / name).read_bytes())
    return folder


@pytest.mark.slow
def test_bert_base_through_both_stages(tmp_path, bert_base):
    tweets = [(f"tweet {i} is {word}", word) for i in range(10) for word in ("good", "bad")]
    with (tmp_path / "tweets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *tweets])

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr

    store, head, scored = (tmp_path / name for name in ("t.h5", "head.joblib", "scored.csv"))
    poolings = ["--pooling", "cls", "--pooling", "mean", "--pooling", "cls@last4+concat"]
    run("extract", tmp_path / "tweets.csv", "-o", store, "--model", bert_base, *poolings)
    with FeatureStore(store) as cached:
        assert cached.views == {"cls": 768, "mean": 768, "cls@last4+concat": 3072}
        assert np.isfinite(cached.read(list(cached.views))).all()
    run("fit", store, "-o", head, "--pooling", "cls@last4+concat", "--C", "1", "--cv", "2")
    run("predict", head, tmp_path / "tweets.csv", "-o", scored)
    with scored.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "label", "p_bad", "p_good", "flags"]
    # Random features of twenty texts of two kinds can be told apart where they were fitted.
    assert [row["label"] for row in rows] == [label for _, label in tweets]
