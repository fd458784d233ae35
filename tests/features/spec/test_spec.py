"""The spec: what makes two vectors comparable, and what is said where it differs."""

import dataclasses
import json

import numpy as np
import pytest
from architectures import POSITIONS, TEXTS, variant

from features import FrozenEncoder
from features.backends.choice import Runtime
from features.errors import FileRefused, InputError
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec

SPEC = EncoderSpec(
    model="some-model",
    revision=None,
    weights="a" * 64,
    config="b" * 64,
    tokenizer="c" * 64,
    max_length=128,
    normalizer="tweeteval/1",
)
# Another value for each field.
OTHER = {
    "model": "elsewhere/some-model",
    "revision": "main",
    "weights": "d" * 64,
    "config": "e" * 64,
    "tokenizer": "f" * 64,
    "max_length": 64,
    "normalizer": "none",
    "pooling_version": SPEC.pooling_version + 1,
    "quantization": "int8/1",
    "prefix": "query: ",
    "modules": "1" * 64,
}
# Fields that files of earlier versions lack.
LATER = ["prefix", "modules"]
NAMES = ("model", "revision")
FINGERPRINT = "3e8194beb793fea07c45907a06ebedf0c9d51541bf39e1341488498c2dcf11ac"


def test_another_value_is_tried_for_every_field():
    assert set(OTHER) == {field.name for field in dataclasses.fields(EncoderSpec)}


@pytest.mark.parametrize("field", OTHER)
def test_all_but_the_names_is_in_the_fingerprint(field):
    other = dataclasses.replace(SPEC, **{field: OTHER[field]})
    assert (other.fingerprint == SPEC.fingerprint) == (field in NAMES)


def test_the_fingerprint_stays_what_it_was():
    # Stores and heads hold it: to change how it is made is to refuse every file that there is.
    assert SPEC.fingerprint == FINGERPRINT


@pytest.mark.parametrize("field", OTHER)
def test_a_spec_survives_json(field):
    spec = dataclasses.replace(SPEC, **{field: OTHER[field]})
    again = EncoderSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize("field", LATER)
def test_a_spec_of_an_earlier_version_is_read_and_written_as_it_was(field):
    content = SPEC.to_dict()
    assert field not in content
    assert EncoderSpec.from_dict(content) == SPEC
    assert EncoderSpec.from_dict({**content, field: getattr(SPEC, field)}).to_dict() == content


@pytest.mark.parametrize("field", [field for field in OTHER if field not in LATER])
def test_a_spec_without_a_field_is_refused(field):
    content = SPEC.to_dict()
    del content[field]
    with pytest.raises(FileRefused, match=f"another version; it differs in {field}"):
        EncoderSpec.from_dict(content)


def test_a_spec_with_a_field_too_many_is_refused():
    with pytest.raises(FileRefused, match="differs in layers, quantised"):
        EncoderSpec.from_dict({**SPEC.to_dict(), "quantised": True, "layers": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in OTHER
        for value in (None, 1.5, ["x"], {})
        if (field, value) != ("revision", None)
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused(field, value):
    with pytest.raises(FileRefused, match=f"bad {field}: "):
        EncoderSpec.from_dict({**SPEC.to_dict(), field: value})


def test_a_text_is_no_number_and_a_number_no_text():
    with pytest.raises(FileRefused, match="bad max_length: '128'"):
        EncoderSpec.from_dict({**SPEC.to_dict(), "max_length": "128"})
    with pytest.raises(FileRefused, match="bad weights: 5"):
        EncoderSpec.from_dict({**SPEC.to_dict(), "weights": 5})


@pytest.mark.parametrize("field", [field for field in OTHER if field not in NAMES])
def test_what_differs_is_named_with_both_values(field):
    other = dataclasses.replace(SPEC, **{field: OTHER[field]})
    (difference,) = SPEC.differences(other)
    shown = repr if field == "prefix" else str
    mine, theirs = (shown(getattr(spec, field))[:12] for spec in (SPEC, other))
    assert difference == (field, mine, theirs)


def test_names_alone_are_no_difference():
    assert SPEC.differences(SPEC) == []
    renamed = dataclasses.replace(SPEC, **{name: OTHER[name] for name in NAMES})
    assert SPEC.differences(renamed) == []


def test_names_come_along_with_a_difference():
    other = dataclasses.replace(SPEC, model="another", max_length=64, normalizer="none")
    assert SPEC.differences(other) == [
        ("model", "some-model", "another"),
        ("max_length", "128", "64"),
        ("normalizer", "tweeteval/1", "none"),
    ]


# Specs of real files.


def test_the_defaults():
    spec = make_spec(find_checkpoint())
    assert (spec.model, spec.revision) == ("all-MiniLM-L6-v2", None)
    assert (spec.max_length, spec.normalizer) == (128, "tweeteval/1")
    assert all(len(digest) == 64 for digest in (spec.weights, spec.config, spec.tokenizer))


def test_the_encoder_and_its_files_make_the_same_spec(tiny_model):
    files = find_checkpoint(tiny_model("bert"))
    for options in ({}, {"max_length": 12}, {"normalize": "none"}):
        assert FrozenEncoder(tiny_model("bert"), **options).spec == make_spec(files, **options)


def test_an_encoder_of_a_spec(tiny_model):
    files = find_checkpoint(tiny_model("bert"))
    spec = make_spec(files, max_length=9, normalize="none")
    views, runtime = ["cls", "mean"], Runtime(dtype="float32", backend="torch")
    ours = FrozenEncoder.from_spec(spec, lambda: files, pooling=views, runtime=runtime)
    same = FrozenEncoder(
        files.folder,
        pooling=views,
        max_length=9,
        normalize="none",
        dtype=runtime.dtype,
        backend=runtime.backend,
    )
    assert (ours.dtype, ours.choice.candidate) == ("float32", same.choice.candidate)
    assert ours.spec is spec
    for view, matrix in ours.encode(TEXTS).items():
        np.testing.assert_array_equal(matrix, same.encode(TEXTS)[view])


def test_length_and_normaliser_make_another_fingerprint(tiny_model):
    files = find_checkpoint(tiny_model("bert"))
    specs = [
        make_spec(files, **options)
        for options in ({}, {"max_length": 12}, {"normalize": "none"}, {"max_length": 13})
    ]
    assert len({spec.fingerprint for spec in specs}) == len(specs)
    assert make_spec(files, normalize="tweeteval/1") == specs[0]
    assert make_spec(files, max_length=POSITIONS) == specs[0]


def test_the_name_of_the_folder_makes_no_other_fingerprint(tiny_model, tmp_path):
    first, second = tiny_model("bert"), variant(tiny_model("bert"), tmp_path / "two")
    specs = [make_spec(find_checkpoint(folder)) for folder in (first, second)]
    assert specs[0].model != specs[1].model
    assert specs[0].fingerprint == specs[1].fingerprint


def test_speed_settings_make_no_other_fingerprint(tiny_model):
    plain = FrozenEncoder(tiny_model("bert"))
    tuned = FrozenEncoder(
        tiny_model("bert"), pooling="cls", dtype="bfloat16", device="cpu", max_batch_tokens=7
    )
    assert tuned.spec == plain.spec


@pytest.mark.parametrize("length", [POSITIONS + 1, 10**6])
def test_more_than_a_model_reads_is_refused_with_the_limit(tiny_model, length):
    with pytest.raises(InputError, match=f"{length} is more than .* at most {POSITIONS}"):
        make_spec(find_checkpoint(tiny_model("bert")), max_length=length)


@pytest.mark.parametrize("length", [2, 1, 0, -5])
def test_less_than_a_token_between_the_special_ones_is_refused(tiny_model, length):
    with pytest.raises(InputError, match=f"{length} leaves no room .* at least 3"):
        make_spec(find_checkpoint(tiny_model("bert")), max_length=length)
