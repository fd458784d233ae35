"""Heads are served from a bucket as from files; refusals are in tests/test_object_storage.py."""

import pytest
from serving import made_head, running

from pipeline.head.head import save_head
from pipeline.scoring.predict import encode_for, encoders_for


@pytest.mark.slow
def test_heads_from_there_are_served(s3, tiny_model):
    """A file and a folder, by their names, by a process that knows the server as others do."""
    model = tiny_model("bert")
    head = made_head(model, {"mean": 32})
    save_head(head, f"{s3}/mood.joblib")
    head.save_pretrained(f"{s3}/folder")
    options = ["--model", model, "--backend", "torch"]
    with running(f"{s3}/mood.joblib", f"{s3}/folder/", *options) as server:
        status, _, answer = server.ask("/heads/predict", {"inputs": "so happy for you two"})
    assert status == 200, answer
    assert list(answer) == ["mood", "folder"]
    assert answer["mood"] == answer["folder"]
    proba = head.predict_proba(encode_for(head, ["so happy for you two"], encoders_for(head)))
    for one in answer["mood"]:
        assert one["score"] == pytest.approx(proba[0][head.labels.index(one["label"])], abs=2e-6)
