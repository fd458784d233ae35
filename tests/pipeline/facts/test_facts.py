"""The facts of a report are JSON, with the keys that its readers know."""

import json
from pathlib import Path

from report_examples import example_facts, example_points

KEYS = {
    "": "format version verdict head data checks choice metrics confusion precision_recall "
    "reliability learning_curve mistakes uncertain suspects changes provenance left_out",
    "head": "file labels views encoders C prior calibration rows",
    "data": "files rows labelled classes lengths duplicates scripts",
    "choice": "metric grid",
    "reliability": "before after",
    "learning_curve": "metric points forecast",
    "changes": "against metrics flipped corrections rows undisputed measured_on remarks",
}
OF_EACH = {
    "checks": "id status title finding cure",
    "precision_recall": "label recall precision average_precision",
    "mistakes": "row id label predicted probability text",
    "uncertain": "row id label predicted probability text",
    "suspects": "row id label predicted probability text score suggested loss",
}


def test_the_keys_of_the_json():
    content = json.loads(json.dumps(example_facts().to_dict(), allow_nan=False))
    for name, keys in KEYS.items():
        assert set(content[name] if name else content) == set(keys.split())
    for name, keys in OF_EACH.items():
        assert all(set(one) == set(keys.split()) for one in content[name])
    assert content["format"] == "frostline report"


def test_the_example_holds_together():
    points = example_points()
    facts = example_facts(points)
    assert sum(map(sum, facts.confusion.counts)) == facts.data.labelled
    assert example_facts(example_points(with_text=False)).mistakes[0].text is None


def test_the_keys_are_documented():
    page = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## report.json")
    for keys in [*KEYS.values(), *OF_EACH.values()]:
        for key in keys.split():
            assert f"`{key}`" in section or f"`{key}` " in section, key
