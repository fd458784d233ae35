"""The plot of `compare`: what lies where, what is written, and what is refused."""

import dataclasses
import io
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from stores import LABELS, blobs, write_store

from features.errors import InputError
from pipeline.cli.commands import main
from pipeline.compare import Compared, Comparison, compare
from pipeline.data.conflicts import Conflicts
from pipeline.data.corrections import Corrections
from pipeline.evaluation.metrics import Metrics
from pipeline.plots.comparison import MOST_VIEWS, _contrast, _shade, _ticks, comparison_plot
from pipeline.plots.files import write_plot
from pipeline.plots.picture import BLUE, PAPER, Circle, Line, Picture, Rect, Text
from pipeline.plots.png import png_bytes
from pipeline.plots.svg import svg_text

# Macro recall of layers by poolings, and two views side by side; one pair is not there.
FIGURES = {
    "mean@-2": 0.70,
    "cls@-2": 0.69,
    "mean": 0.66,
    "cls@last4+sum": 0.65,
    "mean + cls": 0.62,
    "cls": 0.60,
}


def comparison(figures, metric="macro-recall", **changed):
    """A comparison whose best line is the first one; the second can't be told from it."""
    best = next(iter(figures.values()))
    lines = []
    for n, (name, figure) in enumerate(figures.items()):
        difference = figure - best
        half = 0.0 if n == 0 else abs(difference) * (1.5 if n == 1 else 0.5)
        metrics = Metrics(300, {metric: figure}, (figure - 0.02, figure + 0.02), 0.03, (), [])
        interval = (difference - half, difference + half)
        views = tuple(name.split(" + "))
        lines.append(Compared(views, 8, 0.1, metrics, difference, interval, True, 1.0))
    found = Comparison(
        lines=tuple(lines),
        metric=metric,
        labels=LABELS,
        prior=(1 / 3,) * 3,
        rows=300,
        unlabelled=0,
        matching=None,
        corrections=Corrections(),
        conflicts=Conflicts("keep"),
        measured_on="5 folds",
    )
    return dataclasses.replace(found, **changed)


def marks_of(result, kind):
    return [mark for mark in comparison_plot(result).picture.marks if isinstance(mark, kind)]


def texts(result):
    return {mark.text: mark for mark in marks_of(result, Text)}


def test_dots_lie_at_their_differences_and_lines_at_their_intervals():
    result = comparison(FIGURES)
    dots = [mark for mark in marks_of(result, Circle) if mark.tip]
    assert [dot.tip.partition(":")[0] for dot in dots] == list(FIGURES)
    x0, scale = dots[0].x, (dots[-1].x - dots[0].x) / result.lines[-1].difference
    bars = {mark.y1: mark for mark in marks_of(result, Line) if mark.stroke == BLUE}
    assert dots[0].y not in bars and len(bars) == len(dots) - 1
    for dot, line in zip(dots, result.lines, strict=True):
        assert dot.x == pytest.approx(x0 + scale * line.difference)
        assert texts(result)[line.name].y == pytest.approx(dot.y + 4)
        if line.difference:
            ends = [x0 + scale * end for end in line.difference_interval]
            assert [bars[dot.y].x1, bars[dot.y].x2] == pytest.approx(ends)
    # The second line's interval holds 0.
    assert [dot.fill for dot in dots] == [BLUE, PAPER, BLUE, BLUE, BLUE, BLUE]
    ticks = {
        float(text): mark
        for text, mark in texts(result).items()
        if text[:1] in "+-0" and text.replace(".", "").lstrip("+-").isdigit() and mark.size == 10
    }
    assert len(ticks) >= 3
    for value, mark in ticks.items():
        assert mark.x == pytest.approx(x0 + scale * value)


def test_a_grid_of_layers_by_poolings_is_a_heat_map():
    result = comparison(FIGURES)
    written, cells = texts(result), [mark for mark in marks_of(result, Rect) if mark.tip]
    assert len(cells) == 5
    rows = {"last4+sum": "last4+sum", "-1": "-1, the last", "-2": "-2"}
    assert [written[name].y for name in rows.values()] == sorted(
        written[name].y for name in rows.values()
    )
    columns = {mark.text: mark for mark in marks_of(result, Text) if mark.anchor == "middle"}
    for (column, row), view in {
        ("mean", "-2"): "mean@-2",
        ("cls", "-2"): "cls@-2",
        ("mean", "-1"): "mean",
        ("cls", "-1"): "cls",
        ("cls", "last4+sum"): "cls@last4+sum",
    }.items():
        (cell,) = (mark for mark in cells if mark.tip.startswith(f"{view}:"))
        assert cell.x < columns[column].x < cell.x + cell.width
        assert cell.y < written[rows[row]].y < cell.y + cell.height
    assert {"0.7000, best", "~ 0.6900", "0.6600"} <= written.keys()


@pytest.mark.parametrize(("metric", "best"), [("macro-recall", 0.9), ("log-loss", 0.1)])
def test_the_better_the_darker(metric, best):
    step = -0.1 if metric == "macro-recall" else 0.1
    views = ["mean", "cls", "mean@-2", "cls@-2"]
    result = comparison({view: best + n * step for n, view in enumerate(views)}, metric)
    fills = [mark.fill for mark in marks_of(result, Rect) if mark.tip]
    by_view = dict(zip(["cls", "mean", "cls@-2", "mean@-2"], fills, strict=True))
    lightness = [sum(bytes.fromhex(by_view[view][1:])) for view in views]
    assert lightness == sorted(lightness) and len(set(lightness)) == 4


def test_one_view_that_learned_nothing_leaves_shades_to_the_others():
    views = [f"{tokens}@-{n}" for n in (2, 3, 4) for tokens in ("cls", "mean")]
    figures = dict(zip(views, (0.72, 0.71, 0.70, 0.69, 0.68, 0.1), strict=True))
    fills = {mark.tip[:7]: mark.fill for mark in marks_of(comparison(figures), Rect) if mark.tip}
    assert len(set(fills.values())) == 6
    spread = [sum(bytes.fromhex(fills[f"{view}:"[:7]][1:])) for view in (views[0], views[4])]
    assert spread[1] - spread[0] > 100


@pytest.mark.parametrize(
    "views",
    [
        ["mean"],
        ["mean", "mean@-2", "mean@-3"],
        ["mean", "cls", "max"],
        ["mean", "cls@-2", "max@-3"],
        ["mean + cls", "mean@-2 + cls@-2"],
    ],
)
def test_what_is_no_grid_has_no_heat_map(views):
    result = comparison({view: 0.7 - 0.01 * n for n, view in enumerate(views)})
    assert not [mark for mark in marks_of(result, Rect) if mark.tip]
    assert len([mark for mark in marks_of(result, Circle) if mark.tip]) == len(views)


def test_encoders_have_columns_of_their_own():
    views = ["1:mean", "2:mean", "1:mean@-4:-2+sum", "2:mean@-4:-2+sum"]
    written = texts(comparison({view: 0.7 - 0.01 * n for n, view in enumerate(views)}))
    assert {"1:mean", "2:mean", "-4:-2+sum", "-1, the last"} <= written.keys()


def test_equal_views_are_all_best_and_the_picture_is_finite():
    result = comparison(dict.fromkeys(["mean", "cls", "mean@-2", "cls@-2"], 0.5))
    root = ET.fromstring(svg_text(comparison_plot(result).picture))
    numbers = [
        float(value)
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("x", "y", "cx", "cy", "x1", "x2", "y1", "y2", "width", "height")
    ]
    assert np.isfinite(numbers).all()


def test_many_views_say_what_is_left_out():
    result = comparison({f"mean@{n}": 0.9 - n / 1000 for n in range(1, 131)})
    assert any(f"(the first {MOST_VIEWS} of 130)" in text for text in texts(result))
    assert len([mark for mark in marks_of(result, Circle) if mark.tip]) == MOST_VIEWS
    assert len(comparison_plot(result).rows) == 130


def test_marks_stay_on_the_paper():
    for count in (1, 2, 40):
        names = [f"{t}@-{n}" for n in range(2, 12) for t in ("cls", "mean", "max", "mean-content")]
        result = comparison({name: 0.7 - 0.01 * n for n, name in enumerate(names[:count])})
        picture = comparison_plot(result).picture
        for mark in picture.marks:
            x = mark.x1 if isinstance(mark, Line) else mark.x
            y = mark.y1 if isinstance(mark, Line) else mark.y
            assert 0 <= x <= picture.width and 0 <= y <= picture.height


@pytest.mark.parametrize("goodness", np.linspace(0, 1, 41))
def test_figures_can_be_read_on_every_shade(goodness):
    fill = _shade(goodness)
    assert max(_contrast("#fefefe", fill), _contrast("#010101", fill)) >= 4.5


def test_contrast_is_that_of_wcag():
    assert _contrast("#ffffff", "#000000") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@given(st.floats(-1, 0), st.floats(0, 1))
@example(0.0, 1e-9)
@example(0.0, 0.0)
@example(-1e-9, 1e-9)
def test_ticks_are_round_and_hold_what_is_drawn(low, high):
    ticks = _ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 3 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-6 * step and high - 1e-6 * step <= ticks[-1]
    assert float(f"{step:.0e}") == pytest.approx(step)
    np.testing.assert_allclose(np.diff(ticks), step)


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        assert not [name for name, _ in attributes if name.startswith("on") or name == "src"]

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_is_one_file_and_hostile_text_is_text(tmp_path):
    result = comparison(FIGURES, measured_on="</svg><script>alert(1)</script>\x1b[2J\u202e")
    write_plot(comparison_plot(result), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(page)
    assert "script" not in elements.names and elements.names.count("svg") == 1
    assert "default-src 'none'" in page
    assert "\x1b" not in page and "\u202e" not in page
    shown = "".join(elements.text)
    assert "</svg><script>alert(1)</script>\\u001b[2J\\u202e" in shown
    for line in result.lines:
        assert f"{line.metrics.figures['macro-recall']:.4f}" in shown
    ET.fromstring(svg_text(comparison_plot(result).picture))


def test_a_png_has_the_marks_of_the_picture():
    picture = comparison_plot(comparison(FIGURES)).picture
    image = Image.open(io.BytesIO(png_bytes(picture))).convert("RGB")
    assert image.size == (2 * picture.width, 2 * picture.height)
    dots = [mark for mark in picture.marks if isinstance(mark, Circle) and mark.tip]
    pixels = ["#" + bytes(image.getpixel((2 * dot.x, 2 * dot.y))).hex() for dot in dots]
    assert pixels == [BLUE, PAPER, BLUE, BLUE, BLUE, BLUE]
    (cell,) = (m for m in picture.marks if isinstance(m, Rect) and m.tip.startswith("mean@-2:"))
    assert "#" + bytes(image.getpixel((2 * cell.x + 6, 2 * cell.y + 6))).hex() == cell.fill
    # Each line of text leaves ink.
    for mark in picture.marks:
        if isinstance(mark, Text):
            left = {"start": 0, "middle": -8, "end": -16}[mark.anchor]
            box = (mark.x + left, mark.y - mark.size, mark.x + left + 16, mark.y + 1)
            assert len(image.crop([round(2 * side) for side in box]).getcolors(9999)) > 2, mark


def test_a_character_that_no_font_has_is_no_empty_box():
    cuneiform = "\U00012000"
    with pytest.raises(
        InputError, match=f'no font on this machine has the character "{cuneiform}"'
    ):
        png_bytes(Picture("", 20, 20, [Text(0, 10, f"a{cuneiform}")]))


def test_a_png_that_is_too_large():
    with pytest.raises(InputError, match="is too large; give `plot` a name that ends in"):
        png_bytes(Picture("", 5000, 5000, []))


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.h5"
    write_store(path, *blobs(60, 8, 3), labels=LABELS)
    return path


@pytest.mark.parametrize("kind", ["svg", "png", "html"])
def test_compare_writes_its_plot(kind, store, tmp_path):
    result = run("compare", store, "--plot", tmp_path / f"plot.{kind}")
    assert result.exit_code == 0, result.output
    begins = {"svg": b"<svg ", "png": b"\x89PNG", "html": b"<!doctype html>"}[kind]
    content = (tmp_path / f"plot.{kind}").read_bytes()
    assert content.startswith(begins)
    if kind == "svg":
        (line,) = compare(store).lines
        assert line.name in content.decode()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "plot.pdf"], "the name of a plot must end in .svg, .png or .html"),
        (["--plot", "plot"], "the name of a plot must end in"),
        (["--plot", "no/plot.svg"], "the folder no does not exist"),
        (["--plot", "a.html", "--json", "a.html"], "is the output already"),
    ],
)
def test_wrong_plots_are_refused_before_the_work(options, message, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("compare", store, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_without_pillow_a_png_is_refused_with_the_cure(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("compare", store, "--plot", tmp_path / "plot.png")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: a PNG is drawn with Pillow, which is not installed: pip install "
        "'frostline[plots]', or give --plot a name that ends in .svg or .html\n"
    )
    assert run("compare", store, "--plot", tmp_path / "plot.svg").exit_code == 0
