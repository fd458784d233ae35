"""Settings of the documentation's site: `make docs` builds it from these pages into `_build/html`.

The pages are read on a code host as well, so their links lead from file to file, also to those
beside `docs/`. Here such a file is a page that includes it, and the links to it are turned.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from features.version import __version__  # noqa: E402  # of this tree, whatever is installed

project = "frostline"
author = "the authors of frostline"
copyright = f"{author}, Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
# Types of other packages are named, and not linked: their sites would have to be asked.
nitpick_ignore_regex = [("py:.*", ".*")]

# The anchors of headings are those of GitHub, so that links work there and here.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# The reference, from the docstrings, where one backtick marks code.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
# Made by scikit-learn, for its own use.
autodoc_default_options["exclude-members"] = "set_fit_request, set_score_request"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"frostline {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_domain_indices = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ea", "color-brand-content": "#7cc0ea"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# What is copied from a block is what is typed: neither the prompt nor what is printed.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"

# Files beside docs/ that have a page here, which includes them.
PAGES_OF = {
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
}


def turn_links(text: str, file: Path, page: Path) -> str:
    """Write the links of a file as they have to be on a page that shows it.

    Parameters
    ----------
    text
        Markdown, with links as they are right in `file`.
    file
        Where the text is read from.
    page
        The page of docs/ that shows it: the same file, or one that includes it.
    """

    def turned(link: re.Match[str]) -> str:
        name, anchor = link[1], link[2] or ""
        there = Path(os.path.normpath(file.parent / name))
        there = PAGES_OF.get(there, there)
        return f"]({os.path.relpath(there, page.parent)}{anchor})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)", turned, text)


def setup(app: Sphinx) -> None:
    """Have the links turned of each page, and of what it includes."""

    def read(app: Sphinx, page: str, content: list[str]) -> None:
        path = Path(app.env.doc2path(page))
        content[0] = turn_links(content[0], path, path)

    def included(app: Sphinx, file: Path, page: str, content: list[str]) -> None:
        shown_on = Path(app.env.doc2path(page))
        content[0] = turn_links(content[0], (DOCS / file).resolve(), shown_on)

    app.connect("source-read", read)
    app.connect("include-read", included)
