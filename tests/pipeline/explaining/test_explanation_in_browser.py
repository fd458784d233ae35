"""The page of an explanation in a real browser, from a file and without network."""

import numpy as np
import pytest

from pipeline.explaining.explain import Explanation, WordEffect
from pipeline.explaining.logits import TRAINING_MEAN, ViewShares
from pipeline.explaining.page import explanation_page
from pipeline.explaining.training import Training, TrainingTweet
from pipeline.explaining.words import words_of
from pipeline.solver.solve import softmax

TEXTS = {
    "plain": "So proud of our little school band tonight 🎉, not bad!\nSee https://t.co/x1 @ana",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)> &lt;b&gt; </style></p> \"' so",
    "marks": "a" + "\u0301" * 10_000 + " sad",
    "turned round": "so \u202ehappy\u202c \u2066you\u2069 \x1b[31mred \x00",
    "no blanks": "w" * 3000,
    "arabic": "وأخيراً وصلت القهوة ☕ يا له من صباح جميل",
    "none": "",
}
LABELS = ("negative", "<b>neutral</b>", "positive-" + "x" * 60)


def made_up(text):
    """An explanation of any text, with figures of all sizes and signs."""
    rng = np.random.default_rng(0)
    words = words_of(text)
    logits, parts = rng.normal(size=3), rng.normal(size=(4, 3))
    effects = rng.normal(size=len(words)) * 2
    tweets = [
        TrainingTweet(f"id-{n}" + "i" * 100 * n, n, 1 + n, LABELS[n % 3], effect, confirmed, told)
        for n, (effect, confirmed, told) in enumerate(
            [(0.5, 0.52, text), (0.1, None, "w" * 900), (-0.4, None, None), (-0.2, 0.1, "")]
        )
    ]
    names = tuple(f"mean@-{n}" for n in range(4, 0, -1))
    return Explanation(
        text,
        LABELS,
        softmax(logits[None])[0],
        logits,
        tuple(
            WordEffect(word.start, word.stop, float(effect), softmax(rng.normal(size=(1, 3)))[0])
            for word, effect in zip(words, effects, strict=True)
        ),
        len(words) + 1,
        True,
        1.5,
        ViewShares(names, parts, logits - parts.sum(axis=0), TRAINING_MEAN),
        Training(tuple(tweets[:2]), tuple(tweets[2:]), 1000, 990, 1.0, 2.0, False, np.zeros(4)),
    )


@pytest.fixture
def opened(browser, tmp_path):
    """Give what opens the page of a text; at the end, nothing was requested or complained of."""
    path, heard, pages = tmp_path / "explanation.html", [], []

    def open_page(text, width=1440, scheme="light"):
        path.write_text(explanation_page(made_up(text), 'h"<i>.joblib'), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    assert heard == [path.as_uri()] * len(pages)
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_shown_as_texts(opened, name):
    page, text = opened(TEXTS[name]), TEXTS[name]
    shown = page.locator(".tweet").evaluate("one => one.textContent")
    if name == "turned round":
        assert shown == "so \\u202ehappy\\u202c \\u2066you\\u2069 \\u001b[31mred \\u0000"
    else:
        assert shown == text
    assert page.locator("main img, main script, main i").count() == 0
    assert page.locator("header bdi").all_inner_texts()[-1] == 'h"<i>.joblib'


def test_words_carry_their_effect(opened):
    page, found = opened(TEXTS["plain"]), made_up(TEXTS["plain"])
    strongest = max(found.words, key=lambda one: abs(one.effect))
    marked = page.locator(".tweet .for-5, .tweet .against-5")
    assert found.word(strongest) in marked.all_inner_texts()
    for one in marked.all():
        side = "for" if one.get_attribute("title").startswith("+") else "against"
        assert one.get_attribute("class") == f"{side}-5"
        assert one.evaluate("one => getComputedStyle(one).backgroundColor") != "rgba(0, 0, 0, 0)"
    table = page.locator("section:has(h2:text-is('Words')) tbody tr")
    assert table.count() == len(found.words)
    assert table.first.locator("th").inner_text() == found.word(strongest)
    assert table.first.locator("td").first.inner_text() == f"{strongest.effect:+.2f}"


def test_the_policy_forbids_what_a_page_could_fetch_or_run(browser, tmp_path):
    path = tmp_path / "explanation.html"
    path.write_text(explanation_page(made_up("so"), "head.joblib"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    refused = page.evaluate(
        """() => new Promise(done => {
            document.addEventListener("securitypolicyviolation", e => done(e.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'ran'";
            document.body.append(script);
        })"""
    )
    assert refused.startswith("script-src")
    assert page.title().startswith("frostline explanation: ")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["plain", "markup", "no blanks", "arabic"])
def test_it_fits_and_has_no_violations(opened, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(TEXTS[name], width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
