"""The site that `make docs` builds: whole, in its menu, in agreement with the README, by itself."""

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import DOCS, LINKED, README, ROOT

# Of its extensions, for versions of Sphinx to come.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
sphinx_build = pytest.importorskip("sphinx.cmd.build", reason="pip install 'frostline[docs]'")


# Elements that a browser loads something for, with the attribute that says what.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Requests(HTMLParser):
    """What a browser asks for when it opens a page, and what the page leads to."""

    def __init__(self, html):
        super().__init__()
        self.loaded, self.images, self.links = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "a":
            self.links.append(found.get("href") or "")
        elif found.get(LOADED.get(tag, "")):
            self.loaded.append(found[LOADED[tag]])
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    built = folder / "html"
    arguments = ["--fail-on-warning", "--keep-going", "--quiet", "-d", str(folder / "doctrees")]
    assert sphinx_build.main([*arguments, str(ROOT / "docs"), str(built)]) == 0
    return built


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): Requests(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
    }


def test_every_page_is_built_and_in_the_menu(pages):
    """Sphinx warns of a page that is in no menu; the front page has all of it."""
    names = {name.removeprefix("docs/").removesuffix(".md") + ".html" for name in DOCS}
    assert names <= pages.keys()
    assert names <= set(pages["index.html"].links)


def test_a_page_asks_no_other_host(site, pages):
    for name, page in pages.items():
        assert page.loaded, name
        assert [one for one in page.loaded if urlsplit(one).netloc] == [], name
    for sheet in site.rglob("*.css"):
        asked = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", sheet.read_text(encoding="utf-8"))
        places = [one.strip("'\" ") for pair in asked for one in pair if one]
        assert [one for one in places if not one.startswith("data:") and urlsplit(one).netloc] == []


def test_every_image_is_there_and_says_what_it_shows(site, pages):
    images = [(name, image) for name, page in pages.items() for image in page.images]
    assert len(images) >= 4
    for name, image in images:
        assert (site / name).parent.joinpath(image["src"]).is_file(), (name, image["src"])
        assert len(image.get("alt", "").split()) >= 3, (name, image["src"])


def test_links_within_the_site_lead_somewhere(site, pages):
    """To files, and to anchors in them."""
    ids = {
        name: set(re.findall(r'\bid="([^"]+)"', (site / name).read_text(encoding="utf-8")))
        for name in pages
    }
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link in ("", "#"):
                continue
            file = (site / name).parent / parts.path if parts.path else site / name
            assert file.resolve().is_file(), (name, link)
            there = file.resolve().relative_to(site.resolve()).as_posix()
            assert not parts.fragment or parts.fragment in ids.get(there, ()), (name, link)


def test_links_to_other_sites_have_a_form_that_can_work():
    """`make linkcheck` asks them."""
    found = {
        (name, target)
        for name, text in LINKED.items()
        for target in re.findall(r"\]\((https?:[^)\s]+(?:\([^)\s]*\)[^)\s]*)?)\)", text)
    }
    assert len(found) > 10
    for name, target in found:
        parts = urlsplit(target)
        assert parts.scheme == "https", (name, target)
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), (name, target)
        assert "utm_" not in parts.query, (name, target)


@pytest.mark.parametrize("package", ["features", "pipeline"])
def test_every_public_name_is_in_the_reference(package, site):
    html = (site / "api.html").read_text(encoding="utf-8")
    described = set(re.findall(rf'\bid="({package}\.\w+)"', html))
    public = importlib.import_module(package).__all__
    assert described == {f"{package}.{name}" for name in public}


def test_the_menu_and_the_table_of_the_readme_agree():
    """The same pages, by kind: those of a folder have one row for the folder's first or each."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    entries = [
        line
        for menu in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
        for line in menu.splitlines()
        if line and not line.startswith(":") and not line.endswith("<self>")
    ]
    _, _, table = README.partition("\n## Where to read on\n")
    shown = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", table, re.MULTILINE)
    assert all(text == target for text, target in shown)
    names = [
        Path(target).with_suffix("").as_posix().removeprefix("docs/").lower() for _, target in shown
    ]
    assert sorted(names) == sorted(entries)
