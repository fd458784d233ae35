"""The pages of a server in a real browser: they work, need nothing else, and texts stay texts."""

import pytest
from serving import in_thread, made_head

from pipeline.scoring.predict import encoders_of
from pipeline.serve.guards import Entrance
from pipeline.serve.scorer.heads import gathered
from pipeline.serve.scorer.scorer import Scorer

LABELS = ("negative", "<b>neutral</b>", "positive-" + "x" * 60)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \u202ehappy \x1b[31m late 🎉 bus"


@pytest.fixture(scope="module")
def scorer(tiny_model):
    bert = tiny_model("bert")
    heads = gathered(
        [("tiny", made_head(bert, {"mean": 32}, LABELS)), ("<i>", made_head(bert, {"cls": 32}))]
    )
    found = Scorer(heads, encoders_of(heads.encoders), max_queue=1000)
    yield found
    found.close()


@pytest.fixture
def opened(browser, scorer):
    """Give what opens a page; at the end, nothing was complained of or asked of others."""
    heard, pages = [], []
    with in_thread(scorer) as port:

        def open_page(path="/", width=1440, scheme="light"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            # A refusal, which the browser names by itself.
            page.on("console", lambda one: "status of 413" in one.text or heard.append(one.text))
            page.on("pageerror", lambda error: heard.append(str(error)))
            page.on("dialog", lambda dialog: heard.append(dialog.message))
            own = f"http://localhost:{port}/"
            page.on("request", lambda one: one.url.startswith(own) or heard.append(one.url))
            page.goto(own.rstrip("/") + path)
            pages.append(page)
            return page

        yield open_page
        for page in pages:
            page.close()
    assert heard == []


def ask(page, text, what="Label"):
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name=what).click()
    page.locator("#answer:not([hidden])").wait_for()


def test_a_text_is_labelled_and_explained(opened, scorer):
    page = opened()
    page.get_by_label("Head").select_option("tiny")
    ask(page, "the bus is late again")
    rows = page.locator("#classes tr")
    assert rows.count() == 3
    shares = [float(row.locator("td").first.inner_text()) for row in rows.all()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.002)
    ask(page, "the bus is late again", "Explain")
    page.locator("#words:not([hidden])").wait_for()
    assert page.locator("#words").inner_text() == "the bus is late again"
    assert page.locator("#words span.for-5, #words span.against-5").count() > 0


def test_texts_and_names_stay_texts(opened):
    page = opened()
    page.locator("#head option").nth(1).wait_for(state="attached")  # the page asks for the names
    assert page.locator("#head option").all_inner_texts() == ["tiny", "<i>"]
    page.get_by_label("Head").select_option("tiny")
    ask(page, HOSTILE, "Explain")
    page.locator("#words:not([hidden])").wait_for()
    shown = page.locator("#words").evaluate("one => one.textContent")
    assert shown == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\u001b")
    assert page.locator("main img, main script, main b, main i").count() == 0
    assert LABELS[1] in page.locator("#classes th").all_inner_texts()


def test_a_refusal_is_shown(opened):
    page = opened()
    page.get_by_label("Text", exact=True).fill("a" * 70_000)
    page.get_by_role("button", name="Label").click()
    page.locator("#status:has-text('65,536')").wait_for()
    assert page.locator("#answer").is_hidden()


@pytest.mark.parametrize(
    ("path", "width", "scheme"),
    [("/", 390, "light"), ("/", 1440, "dark"), ("/docs", 390, "dark"), ("/docs", 1440, "light")],
)
def test_it_fits_and_can_be_used_by_everybody(opened, path, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(path, width, scheme)
    if path == "/":
        page.get_by_label("Head").select_option("tiny")
        ask(page, HOSTILE, "Explain")
        page.locator("#words:not([hidden])").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # axe is put into the page, which its policy would forbid.
    session = page.context.new_cdp_session(page)
    session.send("Page.setBypassCSP", {"enabled": True})
    assert Axe().run(page).response["violations"] == []


def test_a_token_is_asked_for_where_one_is_needed(browser, scorer):
    with in_thread(scorer, entrance=Entrance(b"0123456789abcdef", frozenset())) as port:
        page = browser.new_page()
        page.goto(f"http://localhost:{port}/")
        page.get_by_label("Token").fill("0123456789abcdef")
        page.get_by_label("Token").press("Tab")
        page.get_by_label("Head").select_option("tiny")
        ask(page, "late")
        page.close()
