"""A server answers what `predict` says, refuses what is wrong, and says what it serves."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import InferenceClient
from serving import ask, in_thread, write_heads

from pipeline.cli.commands import main
from pipeline.head.head import load_head
from pipeline.scoring.predict import encoders_of
from pipeline.serve.scorer.heads import gathered
from pipeline.serve.scorer.scorer import Scorer

TEXTS = [
    "so happy for you two 🎉",
    "worst service ever, never again",
    "",
    "the council meets on tuesday at 6 pm",
    "long " * 300,
    "so happy for you two 🎉",
    "<script>alert(1)</script> \u202eabc",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, minilm):
    folder = tmp_path_factory.mktemp("serve")
    write_heads(folder, minilm)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    names = ("mood", "other")
    heads = gathered([(name, load_head(folder / f"{name}.joblib")) for name in names])
    scorer = Scorer(heads, encoders_of(heads.encoders), max_queue=1000)
    try:
        with in_thread(scorer) as found:
            yield found
    finally:
        scorer.close()


def predicted(folder, name, texts):
    """What `predict` says of texts: a row of probabilities each, by label."""
    source = folder / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    output = folder / "scored.jsonl"
    output.unlink(missing_ok=True)
    arguments = ["predict", str(folder / f"{name}.joblib"), str(source), "-o", str(output)]
    result = CliRunner().invoke(main, [*arguments, "--backend", "torch"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in output.read_text().splitlines()]


def assert_same(rows, answers):
    assert len(rows) == len(answers)
    for row, scores in zip(rows, answers, strict=True):
        assert scores[0]["label"] == row["label"]
        assert [one["score"] for one in scores] == sorted(
            (one["score"] for one in scores), reverse=True
        )
        for one in scores:
            np.testing.assert_allclose(one["score"], row[f"p_{one['label']}"], atol=2e-6)


@pytest.mark.parametrize("name", ["mood", "other"])
def test_scores_are_those_of_predict(server, folder, name):
    status, headers, answers = ask(server, f"/heads/{name}/predict", {"inputs": TEXTS})
    assert status == 200
    assert_same(predicted(folder, name, TEXTS), answers)
    assert headers["x-truncated-texts"] == "4"
    assert headers["x-empty-texts"] == "2"
    assert "x-repaired-texts" not in headers


def test_all_heads_answer_at_once(server):
    by_all = ask(server, "/heads/predict", {"inputs": TEXTS})[2]
    assert by_all == {
        name: ask(server, "/predict", {"inputs": TEXTS, "model": name})[2]
        for name in ("mood", "other")
    }


def test_a_text_and_a_list_of_one(server):
    alone = ask(server, "/heads/mood/predict", {"inputs": TEXTS[0]})[2]
    assert ask(server, "/heads/mood/predict", {"inputs": [TEXTS[0]]})[2] == [alone]


def test_clients_of_hugging_face_are_answered(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    client = InferenceClient(f"http://127.0.0.1:{server}/heads/mood/predict")
    wanted = ask(server, "/heads/mood/predict", {"inputs": TEXTS[0]})[2]
    found = client.text_classification(TEXTS[0])
    assert [(one.label, one.score) for one in found] == [
        (one["label"], one["score"]) for one in wanted
    ]
    (best,) = client.text_classification(TEXTS[0], top_k=1)
    assert best.label == wanted[0]["label"]
    raw = client.text_classification(TEXTS[0], function_to_apply="none")
    assert [one.label for one in raw] == [one.label for one in found]
    assert sum(one.score for one in raw) != pytest.approx(1)


def test_classify_speaks_as_vllm(server, folder):
    status, _, answer = ask(server, "/classify", {"input": TEXTS[:2], "model": "mood"})
    assert status == 200
    rows = predicted(folder, "mood", TEXTS[:2])
    assert [one["label"] for one in answer["data"]] == [row["label"] for row in rows]
    for one, row in zip(answer["data"], rows, strict=True):
        wanted = [p for name, p in row.items() if name.startswith("p_")]
        np.testing.assert_allclose(one["probs"], wanted, atol=2e-6)
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["object"] == "list"
    assert answer["usage"]["total_tokens"] > 4


# What is sent to /heads/mood/predict, what is answered, and what the message says.
REFUSED = {
    "no JSON": (b"{", 400, "no JSON"),
    "not a number": (b'{"inputs": NaN}', 400, "no JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', 400, "UTF-8"),
    "nothing": (b"", 400, "no JSON"),
    "no text": ({"inputs": 1}, 422, "Expected"),
    "no text in a list": ({"inputs": ["a", None]}, 422, "$.inputs[1]"),
    "an empty list": ({"inputs": []}, 422, "length >= 1"),
    "no inputs": ({}, 422, "inputs"),
    "an unknown field": ({"inputs": "a", "topk": 1}, 422, "topk"),
    "another head": ({"inputs": "a", "model": "other"}, 422, "other"),
    "no class": ({"inputs": "a", "top_k": 0}, 422, ">= 1"),
    "the other end": ({"inputs": "a", "truncation_direction": "Left"}, 422, "right end"),
    "a long text, whole": ({"inputs": ["a", "long " * 300], "truncate": False}, 413, "128 tokens"),
    "many texts": ({"inputs": ["a"] * 257}, 413, "256"),
    "many bytes": ({"inputs": ["a", "é" * 33_000]}, 413, "65,536"),
    "a large body": (b'{"inputs": "' + b"a" * 2_000_000 + b'"}', 413, "2,000,000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(server, case):
    content, status, said = REFUSED[case]
    found, _, answer = ask(server, "/heads/mood/predict", content)
    assert (found, answer["error_type"]) == (status, "Validation")
    assert said in answer["error"]


def test_half_characters_are_repaired_as_predict_does(server, folder):
    texts = ["a\ud800b", "c\x00d", "e"]
    _, headers, answers = ask(server, "/heads/mood/predict", {"inputs": texts})
    assert headers["x-repaired-texts"] == "0,1"
    assert_same(predicted(folder, "mood", texts), answers)


def test_a_head_must_be_named_where_there_are_several(server):
    status, _, answer = ask(server, "/predict", {"inputs": "a"})
    assert status == 422
    assert '"mood", "other"' in answer["error"]
    assert ask(server, "/heads/none/predict", {"inputs": "a"})[0] == 404


def test_it_says_what_it_serves(server):
    assert ask(server, "/health")[0] == 200
    facts = ask(server, "/info")[2]
    assert [head["name"] for head in facts["heads"]] == ["mood", "other"]
    own = ask(server, "/heads/mood/info")[2]
    assert own["model_type"]["classifier"]["label2id"].keys() == {*facts["heads"][0]["labels"]}
    assert b"frostline_texts_total" in ask(server, "/metrics")[2]


def test_web_pages_of_others_are_refused(server):
    for headers in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
    ):
        status, _, answer = ask(server, "/heads/mood/predict", {"inputs": "a"}, **headers)
        assert status in (403, 421), headers
        assert answer["error_type"] == "Unauthorized"
    own = f"http://localhost:{server}"
    status, headers, _ = ask(
        server, "/heads/mood/predict", {"inputs": "a"}, host=own.removeprefix("http://"), origin=own
    )
    assert status == 200
    assert not [name for name in headers if name.startswith("access-control")]


def test_nothing_is_unpacked_and_only_json_is_read(server):
    body = {"inputs": "a"}
    assert ask(server, "/heads/mood/predict", body, content_encoding="gzip")[0] == 415
    assert ask(server, "/heads/mood/predict", body, content_type="text/plain")[0] == 415


def test_what_can_not_be_served_is_said_at_once(folder, tmp_path):
    head, token = str(folder / "mood.joblib"), tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o644)
    for arguments, said in (
        (["--host", "0.0.0.0"], "--token-file"),
        (["--token-file", str(token)], "chmod 600"),
        (["--host", "no.such.host.invalid"], "--host"),
        ([head], "two heads have the name"),
        (["--max-client-batch-size", "2000"], "1,024"),
        (["--device", "cuda:0,cuda:1"], "one device"),
        (["--prior", "estimate"], "prior"),
    ):
        result = CliRunner().invoke(main, ["serve", head, *arguments])
        assert result.exit_code == 2, result.output
        assert said in result.output
