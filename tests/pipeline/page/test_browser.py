"""The page in a real browser, from a file and without network."""

import csv
import dataclasses
import json

import pytest
from report_examples import HOSTILE, LABELS, example_facts, example_points

from pipeline.data.corrections_file import read_corrections
from pipeline.page.page import render_page
from pipeline.page.words import clean, cut

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SIZES = [(390, 844), (1440, 900)]
# A label that needs quotes in a CSV file, and one that looks like HTML.
NAMED = ("bad,  very", '<b>"so\tso"</b>', "positive")


@pytest.fixture(scope="module")
def points():
    return example_points()


@pytest.fixture(scope="module")
def file(points, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(example_facts(points).to_dict(), points), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser):
    """Give what opens a file; at the end, nothing was requested, and nothing went wrong."""
    pages, heard = [], []

    def open_page(path, *, width=1440, height=900, **options):
        # What scrolls smoothly is not yet where a pointer would go.
        options = {"reduced_motion": "reduce", **options}
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        page.goto(path.as_uri())
        if page.locator("#map").count():
            page.wait_for_selector("html[data-map=ready]")
        assert heard == [path.as_uri()]
        pages.append(page)
        return page

    yield open_page
    assert len(heard) == len(pages)
    for page in pages:
        page.close()


@pytest.fixture
def page(opened, file):
    return opened(file)


def title(page):
    return page.locator("#found-title").inner_text()


def rows(page):
    """Numbers of the rows that are listed below the map."""
    listed = page.locator("#list > .row")
    return [int(one.get_attribute("data-row")) for one in listed.all()]


def place_of(page, points, row):
    """Where a row is drawn, in pixels of the canvas, as the page's own drawing places it."""
    box = page.locator("#canvas").bounding_box()
    low, high = points.xy.min(axis=0), points.xy.max(axis=0)
    across, up = (high - low) / (high - low).max()
    scale = min((box["width"] - 2 - 28) / across, (box["height"] - 2 - 28) / up)
    x, y = (points.xy[row] - low) / (high - low)
    return (
        float((x - 0.5) * across * scale + (box["width"] - 2) / 2),
        float((0.5 - y) * up * scale + (box["height"] - 2) / 2),
    )


def hover(page, points, row):
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    x, y = place_of(page, points, row)
    page.mouse.move(box["x"] + 1 + x, box["y"] + 1 + y)


def lonely(points):
    """Give the row that is farthest from the one nearest to it."""
    far = ((points.xy[:, None] - points.xy[None]) ** 2).sum(axis=2)
    far[range(len(far)), range(len(far))] = float("inf")
    return int(far.min(axis=1).argmax())


def lasso(page, corners):
    """Draw around a part of the canvas: corners are shares of its width and height."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def download(page, path):
    with page.expect_download() as caught:
        page.locator("#download").click()
    assert caught.value.suggested_filename == "corrections.csv"
    caught.value.save_as(path)
    return path.read_text(encoding="utf-8")


def test_the_policy_is_in_force(browser, file):
    page = browser.new_page()
    page.goto(file.as_uri())
    blocked = page.evaluate(
        """async () => {
          const broken = [];
          document.addEventListener(
            "securitypolicyviolation", (e) => broken.push(e.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          const style = document.createElement("style");
          style.textContent = "body { color: red }";
          document.body.append(style);
          const text = document.createElement("div");
          text.innerHTML = '<img src="https://example.org/a.png" onerror="window.ran = true">';
          document.body.append(text);
          await fetch("https://example.org/").catch(() => 0);
          await new Promise((done) => setTimeout(done, 200));
          return [broken.sort(), window.ran ?? false];
        }"""
    )
    assert blocked == [
        ["connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-elem"],
        False,
    ]
    page.close()


def test_hostile_texts_are_shown_as_text(opened, points, tmp_path):
    label = points.label.copy()
    label[: len(HOSTILE)] = (points.predicted[: len(HOSTILE)] + 1) % 3
    hostile = dataclasses.replace(points, label=label)
    path = tmp_path / "hostile.html"
    path.write_text(render_page(example_facts(hostile).to_dict(), hostile), encoding="utf-8")
    page = opened(path, width=390)
    for where in ("#mistakes .tweet", "#list .tweet"):
        shown = [one.evaluate("e => e.textContent") for one in page.locator(where).all()]
        wanted = [clean(text) for text in HOSTILE]
        if where.startswith("#mistakes"):
            wanted = [cut(text) for text in wanted]
        assert shown[: len(HOSTILE)] == wanted
    assert page.locator("script").count() == 4
    assert page.locator("main img, main textarea, main iframe").count() == 0
    # Ten thousand accents stay within their row.
    box = page.locator("#list .row").nth(4).bounding_box()
    assert box["height"] < 400
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_hover_shows_the_text(page, points):
    row = lonely(points)
    hover(page, points, row)
    tip = page.locator("#tip")
    assert tip.locator(".tweet").inner_text() == points.texts[row]
    assert f"row {row}, id {points.ids[row]}" in tip.inner_text()
    assert f"{100 * round(points.probability[row] * 255) / 255:.1f}%" in tip.inner_text()
    page.mouse.move(5, 5)
    assert tip.is_hidden()


def test_a_click_lists_the_row(page, points):
    row = lonely(points)
    hover(page, points, row)
    page.mouse.down()
    page.mouse.up()
    assert rows(page) == [row]
    page.get_by_role("button", name="Show all rows").click()
    assert title(page) == "All 300 rows"


def test_lasso_lists_what_is_inside(page, points):
    assert page.locator("#lasso").get_attribute("aria-pressed") == "true"
    box = page.locator("#canvas").bounding_box()
    places = [place_of(page, points, row) for row in range(300)]
    left = [r for r in range(300) if places[r][0] < 0.45 * (box["width"] - 2)]
    lasso(page, [(0.01, 0.99), (0.01, 0.12), (0.45, 0.12), (0.45, 0.99)])
    inside = [r for r in left if places[r][1] > 0.12 * box["height"]]
    assert len(inside) > 60
    assert title(page) == f"{len(inside)} of 300 rows"
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    assert rows(page) == inside
    page.keyboard.down("Shift")
    lasso(page, [(0.45, 0.99), (0.45, 0.12), (0.99, 0.12), (0.99, 0.99)])
    page.keyboard.up("Shift")
    all_below = [r for r in range(300) if places[r][1] > 0.12 * box["height"]]
    assert title(page) == f"{len(all_below)} of 300 rows"


def test_fingers_list_rows_and_draw_around_them(opened, file, points):
    page = opened(file, width=390, height=844, has_touch=True, is_mobile=True)
    lasso_button = page.locator("#lasso")
    assert lasso_button.get_attribute("aria-pressed") == "false"
    touching = "getComputedStyle(document.getElementById('canvas')).touchAction"
    assert page.evaluate(touching) == "pan-y"
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    row = lonely(points)
    x, y = place_of(page, points, row)
    page.touchscreen.tap(box["x"] + 1 + x, box["y"] + 1 + y)
    assert rows(page) == [row]
    assert page.locator("#tip .tweet").inner_text() == points.texts[row]
    page.get_by_role("button", name="Show all rows").tap()
    lasso_button.tap()
    assert page.evaluate(touching) == "none"
    lasso(page, [(0.05, 0.95), (0.05, 0.2), (0.95, 0.2), (0.95, 0.95)])
    assert title(page).endswith(" of 300 rows")


def test_zoom_and_move(page, points):
    row = lonely(points)
    page.locator("#lasso").click()
    before = page.locator("#canvas").evaluate("c => c.toDataURL()")
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator("#canvas").evaluate("c => c.toDataURL()") != before
    page.get_by_role("button", name="Whole map").click()
    assert page.locator("#canvas").evaluate("c => c.toDataURL()") == before
    hover(page, points, row)
    page.mouse.down()
    box = page.locator("#canvas").bounding_box()
    x, y = place_of(page, points, row)
    page.mouse.move(box["x"] + 1 + x - 120, box["y"] + 1 + y - 60, steps=3)
    page.mouse.up()
    page.mouse.move(box["x"] + 1 + x - 120, box["y"] + 1 + y - 60)
    assert page.locator("#tip .tweet").inner_text() == points.texts[row]
    assert title(page) == "All 300 rows"


def test_search_finds_texts_and_ids(page):
    page.get_by_label("Search").fill("NUMBER 29")
    api.expect(page.locator("#found-title")).to_have_text("11 of 300 rows")
    assert rows(page) == [29, *range(290, 300)]
    page.get_by_label("Search").fill("id-77")
    api.expect(page.locator("#found-title")).to_have_text("1 of 300 rows")
    assert rows(page) == [77]


def test_a_confusion_cell_lists_its_tweets(page, points):
    there = points.label >= 0
    for true, predicted in ((0, 1), (2, 2)):
        wanted = (there & (points.label == true) & (points.predicted == predicted)).nonzero()[0]
        cell = page.locator(f".cell[data-true='{true}'][data-predicted='{predicted}']")
        assert cell.locator("data").get_attribute("value") == str(len(wanted))
        cell.click()
        assert title(page) == f"{len(wanted)} of 300 rows"
        assert rows(page) == wanted.tolist()[:12]
        assert page.evaluate("document.activeElement.id") == "found"


def test_the_rest_of_a_list_unfolds_by_key(page):
    rest = page.locator("#suspects .rest")
    listed = page.locator("#suspects .row")
    assert (listed.count(), listed.filter(visible=True).count()) == (20, 12)
    summary = rest.locator("summary")
    assert summary.inner_text() == "8 more"
    summary.focus()
    page.keyboard.press("Enter")
    assert listed.filter(visible=True).count() == 20
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.row').dataset.row") == listed.nth(
        12
    ).get_attribute("data-row")
    listed.last.locator(".accept").click()
    assert page.locator("#changed-count").inner_text() == "1 label changed"
    summary.focus()
    page.keyboard.press("Space")
    assert listed.filter(visible=True).count() == 12


def test_more_rows_are_listed_below_the_map(page):
    assert rows(page) == list(range(12))
    page.locator("#more").click()
    assert rows(page) == list(range(62))
    assert page.locator("#more").inner_text() == "Show 50 more"


@pytest.mark.parametrize("scripts", [True, False])
def test_folded_rows_are_printed(browser, file, scripts):
    """By their unfolding before print, and by the style sheet where no script may run."""
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(file.as_uri())
    last = page.locator("#suspects .row").last.locator(".about")
    assert last.is_hidden()
    if scripts:
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details.rest:not([open])").count() == 0
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.rest[open]").count() == 0
    page.emulate_media(media="print")
    assert last.is_visible()
    assert page.locator("#suspects summary").is_hidden()
    page.emulate_media(media="screen")
    assert last.is_hidden()
    context.close()


def test_orders_and_kinds(page, points):
    page.locator("#kind").select_option("wrong")
    wrong = ((points.label >= 0) & (points.label != points.predicted)).nonzero()[0]
    assert title(page) == f"{len(wrong)} of 300 rows"
    page.locator("#order").select_option("sure")
    p = points.probability[rows(page)]
    assert (p[:-1] >= p[1:] - 1 / 255).all()
    assert p[0] == pytest.approx(points.probability[wrong].max(), abs=1 / 255)


def pixels(page):
    """Count the pixels of each class's colour as dots have it over paper, in the page's theme."""
    return page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const read = (name) => [1, 3, 5].map((at) =>
            parseInt(style.getPropertyValue(name).trim().slice(at, at + 2), 16));
          const paper = read("--panel");
          const colours = ["--c0", "--c1", "--c2", "--c-rest"].map(
            (name) => read(name).map((v, k) => 0.7 * v + 0.3 * paper[k]));
          const counts = [0, 0, 0, 0];
          const canvas = document.getElementById("canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          for (let at = 0; at < data.length; at += 4) {
            const k = colours.findIndex((c) => c.every((v, i) => Math.abs(v - data[at + i]) < 2));
            if (k >= 0) counts[k]++;
          }
          return counts;
        }"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_by_label_prediction_and_error(opened, file, scheme):
    page = opened(file, color_scheme=scheme)
    assert min(pixels(page)) > 50
    page.get_by_label("prediction", exact=True).check()
    assert min(pixels(page)[:3]) > 50
    assert pixels(page)[3] == 0
    page.get_by_label("error", exact=True).check()
    right, wrong, green, unlabelled = pixels(page)
    assert min(right, wrong, unlabelled) > 50
    assert green == 0
    assert "wrong" in page.locator("#legend").inner_text()


def test_the_theme_follows_the_system_while_the_page_is_open(opened, file):
    page = opened(file, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) != light
    page.wait_for_timeout(100)
    corner = "document.getElementById('canvas').getContext('2d').getImageData(2, 2, 1, 1).data[0]"
    assert page.evaluate(corner) < 60


@pytest.fixture(scope="module")
def named_file(points, tmp_path_factory):
    """A page whose labels and ids need quotes."""
    facts = example_facts(points).to_dict()
    names = dict(zip(LABELS, NAMED, strict=True))
    facts["head"]["labels"] = facts["confusion"]["labels"] = NAMED
    for part in ("mistakes", "uncertain", "suspects"):
        for one in facts[part]:
            one["id"] = f'a "b"\x1b, {one["row"]}'
            for key in ("label", "predicted", "suggested"):
                if key in one:
                    one[key] = names.get(one[key], "")
    named = dataclasses.replace(points, ids=[f'a "b"\x1b, {i}' for i in range(300)])
    path = tmp_path_factory.mktemp("named") / "a report & more.html"
    path.write_text(render_page(facts, named), encoding="utf-8")
    return path


def test_corrections_come_down_as_a_csv(opened, named_file, points, tmp_path):
    page = opened(named_file)
    assert page.locator("#changed").is_hidden()
    there = points.label >= 0
    cell = (there & (points.label == 1) & (points.predicted == 2)).nonzero()[0].tolist()
    page.locator(".cell[data-true='1'][data-predicted='2']").click()
    page.locator("#list .row").nth(1).get_by_role("checkbox").uncheck()
    page.locator("#bulk-label").select_option("0")
    page.get_by_role("button", name=f"Change the {len(cell) - 1} ticked rows").click()
    expected = {row: NAMED[0] for n, row in enumerate(cell) if n != 1}
    suspect = page.locator("#suspects .row").nth(3)
    expected[int(suspect.get_attribute("data-row"))] = json.loads(
        suspect.locator(".accept").get_attribute("data-label")
    )
    suspect.locator(".accept").click()
    page.get_by_role("button", name="Show all rows").click()
    unlabelled = int((points.label < 0).nonzero()[0][0])
    page.locator("#true").select_option("-1")
    expected[unlabelled] = NAMED[1]
    page.locator(f"#list .row[data-row='{unlabelled}'] select").select_option("1")
    assert page.locator("#changed-count").inner_text() == f"{len(expected)} labels changed"
    content = download(page, tmp_path / "corrections.csv")
    assert content.startswith("id,row,label\n")
    read = list(csv.reader(content.splitlines()[1:]))
    lines = read_corrections(tmp_path / "corrections.csv", NAMED).lines
    assert [[one.id, str(one.row), one.label] for one in lines] == read
    assert read == [[f'a "b"\x1b, {r}', str(r), expected[r]] for r in sorted(expected)]


def test_a_change_is_the_same_in_all_lists_and_can_be_undone(page, tmp_path):
    first = page.locator("#mistakes .row").first
    row, was = first.get_attribute("data-row"), json.loads(first.get_attribute("data-label"))
    other = next(label for label in LABELS if label != was)
    first.locator("select").select_option(label=other)
    suspect = page.locator(f"#suspects .row[data-row='{row}']")
    assert suspect.locator("select").input_value() == str(LABELS.index(other))
    assert "is-changed" in suspect.get_attribute("class")
    page.locator("#kind").select_option("changed")
    assert rows(page) == [int(row)]
    suspect.locator("select").select_option(label=was)
    assert page.locator("#changed").is_hidden()
    first.locator("select").select_option(label=other)
    page.get_by_role("button", name="Undo all").click()
    assert page.locator("#changed").is_hidden()
    assert first.locator("select").input_value() == ""


def test_leaving_with_changes_that_were_not_downloaded_is_asked_about(page, tmp_path):
    leave = """() => {
      const event = new Event("beforeunload", { cancelable: true });
      window.dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    assert not page.evaluate(leave)
    page.locator("#suspects .accept").first.click()
    assert page.evaluate(leave)
    download(page, tmp_path / "corrections.csv")
    assert not page.evaluate(leave)
    page.locator("#suspects .accept").nth(1).click()
    assert page.evaluate(leave)


def test_nothing_is_changed_in_bulk_without_a_filter(page):
    page.locator("#bulk-label").select_option(label="positive")
    assert page.locator("#bulk").is_disabled()
    assert page.locator("#list [type=checkbox]").first.is_hidden()


def test_labels_can_be_changed_without_a_map(opened, points, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_page(example_facts(points).to_dict(), None), encoding="utf-8")
    page = opened(path)
    suspect = page.locator("#suspects .row").first
    suspect.locator(".accept").click()
    row, identity = suspect.get_attribute("data-row"), suspect.get_attribute("data-id")
    label = suspect.locator(".accept bdi").inner_text()
    assert (
        download(page, tmp_path / "c.csv")
        == f"id,row,label\n{json.loads(identity)},{row},{label}\n"
    )


def test_without_texts_ids_are_searched_and_labels_change(opened, tmp_path):
    points = example_points(with_text=False)
    path = tmp_path / "private.html"
    path.write_text(render_page(example_facts(points).to_dict(), points), encoding="utf-8")
    page = opened(path)
    hover(page, points, lonely(points))
    assert page.locator("#tip .tweet").inner_text() == "text not included"
    assert page.get_by_label("Search").get_attribute("placeholder") == "ids"
    page.get_by_label("Search").fill("id-123")
    api.expect(page.locator("#found-title")).to_have_text("1 of 300 rows")
    label = LABELS[(points.label[123] + 1) % 3]
    page.locator("#list select").select_option(label=label)
    assert download(page, tmp_path / "c.csv") == f"id,row,label\nid-123,123,{label}\n"


def test_the_map_works_by_keys(page):
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#tip .id").inner_text()
    left = page.locator("#tip").bounding_box()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip .id").inner_text() != first
    assert page.locator("#tip").bounding_box()["x"] > left["x"]
    assert page.locator("#tip .id").inner_text() in page.locator("#said").text_content()
    page.keyboard.press("+")
    assert page.locator("#tip").is_hidden()
    page.keyboard.press("0")
    page.keyboard.press("ArrowDown")
    here = page.locator("#tip .id").inner_text()
    page.keyboard.press("Enter")
    assert [f"row {row}, id id-{row}" for row in rows(page)] == [here]
    assert page.evaluate("document.activeElement.id") == "found"


def test_keys_reach_all_that_can_be_done_in_the_order_of_the_page(page):
    """Tab goes down the page, and where it is can be seen."""
    stops = []
    for _ in range(400):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const e = document.activeElement, box = e.getBoundingClientRect();
              const style = getComputedStyle(e);
              return e === document.body ? null : {
                at: [...document.querySelectorAll("*")].indexOf(e), id: e.id, tag: e.tagName,
                seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                wide: box.width > 0 && box.height > 0 };
            }"""
        )
        if stop is None:
            break
        stops.append(stop)
    order = [stop["at"] for stop in stops]
    assert order == sorted(order)
    assert all(stop["seen"] and stop["wide"] for stop in stops), stops
    assert {"search", "canvas", "lasso", "more", "bulk-label"} <= {stop["id"] for stop in stops}
    assert [stop["tag"] for stop in stops][:2] == ["A", "A"]
    everything = "a[href], button:not(:disabled), select, input, summary, [tabindex='0']"
    shown = page.locator(everything).filter(visible=True).count()
    # Of three radio buttons, Tab reaches the one that is chosen.
    assert len(stops) == shown - 2


def test_what_has_the_focus_is_not_covered(page):
    """The bar of changed labels, at the bottom, covers nothing that Tab reaches above it."""
    page.locator("#suspects .accept").first.click()
    page.locator("#mistakes select").first.focus()
    for _ in range(25):
        page.keyboard.press("Tab")
        bottom = page.evaluate("document.activeElement.getBoundingClientRect().bottom")
        assert bottom <= page.locator("#changed").bounding_box()["y"]


def test_the_first_key_skips_the_contents(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_has_no_violations(opened, named_file, scheme, width, height):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(named_file, width=width, height=height, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#suspects .accept").first.click()
    page.get_by_label("error", exact=True).check()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_words_on_charts_are_large_enough_and_within(opened, file, width, height):
    page = opened(file, width=width, height=height)
    words = page.evaluate(
        """() => [...document.querySelectorAll(".chart text")].map((text) => {
          const svg = text.ownerSVGElement, box = text.getBBox(), field = svg.viewBox.baseVal;
          return {
            text: text.textContent,
            high: svg.getScreenCTM().a * parseFloat(getComputedStyle(text).fontSize),
            within: box.x >= 0 && box.y >= 0 && box.x + box.width <= field.width
              && box.y + box.height <= field.height };
        })"""
    )
    assert len(words) > 40
    assert [one for one in words if one["high"] < 12 or not one["within"]] == []


@pytest.fixture(scope="module")
def crowded_file(tmp_path_factory):
    """A page of thirty classes with long names, as long ids, and texts without blanks."""
    points = example_points()
    facts = example_facts(points).to_dict()
    names = [f"class-{k}-" + "x" * 60 for k in range(30)]
    facts["head"] |= {"labels": names, "file": "y" * 300 + ".joblib", "prior": [1 / 30] * 30}
    facts["confusion"] = {"labels": names, "counts": [[12345] * 30] * 30}
    facts["metrics"]["classes"] = [{**facts["metrics"]["classes"][0], "label": n} for n in names]
    facts["data"] |= {"classes": [{"name": n, "rows": 10, "share": 1 / 30} for n in names]}
    facts["precision_recall"] = [{**facts["precision_recall"][0], "label": n} for n in names]
    facts["provenance"] |= {"commands": ["frostline " + "z" * 500], "head": {"a" * 200: "b" * 900}}
    crowded = dataclasses.replace(
        points,
        predicted=(points.rows % 30).astype("int16"),
        ids=["i" * 300] * 300,
        texts=["w" * 3000] * 300,
    )
    for part in ("mistakes", "uncertain", "suspects"):
        for one in facts[part]:
            one |= {"label": names[3], "predicted": names[4], "id": "i" * 300, "text": "w" * 3000}
            if "suggested" in one:
                one["suggested"] = names[4]
    path = tmp_path_factory.mktemp("crowded") / "report.html"
    path.write_text(render_page(facts, crowded), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_many_classes_and_long_names_fit(opened, crowded_file, width, height):
    page = opened(crowded_file, width=width, height=height)
    page.locator("#suspects .accept").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    legend = page.locator("#legend li").all_inner_texts()
    assert [text.strip()[:7] for text in legend] == [
        *(f"class-{k}" for k in range(8)),
        "other l",
        "no labe",
    ]


def test_prints_light_without_controls(opened, file, tmp_path):
    page = opened(file, color_scheme="dark", width=700)
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert paper.strip() == "#ffffff"
    for hidden in ("#found", ".zoom", ".contents", ".tools", "#mistakes select"):
        assert page.locator(hidden).first.is_hidden(), hidden
    ends = "[...document.querySelectorAll('main *')].map((e) => e.getBoundingClientRect().right)"
    assert max(page.evaluate(ends)) <= 700
    page.wait_for_timeout(100)
    corner = "document.getElementById('canvas').getContext('2d').getImageData(2, 2, 1, 1).data[0]"
    assert page.evaluate(corner) == 255
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 12


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_where_the_reader_asks_for_it(opened, file, motion):
    page = opened(file, reduced_motion=motion)
    behaviour = page.evaluate("getComputedStyle(document.documentElement).scrollBehavior")
    assert behaviour == ("auto" if motion == "reduce" else "smooth")
    assert page.evaluate("document.getAnimations().length") == 0


def test_charts_are_readable_without_script(browser, file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("svg.chart").count() >= 6
    assert page.get_by_text("The map needs JavaScript.").is_visible()
    context.close()


def test_a_damaged_map_is_said_and_lists_work(browser, file, tmp_path):
    html = file.read_text(encoding="utf-8")
    at = html.index('id="names">') + len('id="names">')
    path = tmp_path / "damaged.html"
    path.write_text(html[:at] + "AAAA" + html[at + 4 :], encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#map-note:not([hidden])")
    assert "can't be shown" in page.locator("#map-note").inner_text()
    page.locator("#suspects .accept").first.click()
    assert page.locator("#changed").is_visible()
    page.close()
