"""The pages that people read, by their path: the README, docs/, and those beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def read(path):
    return path.read_text(encoding="utf-8")


def is_shown_page(path):
    """Say whether a page of docs/ has words of its own: some only include a file beside docs/."""
    return "_build" not in path.parts and not read(path).startswith("```{include} ../")


DOCS = {
    path.relative_to(ROOT).as_posix(): read(path)
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if is_shown_page(path)
}
README = read(ROOT / "README.md")
# What the documentation's tests hold to the code.
PAGES = {"README.md": README} | DOCS
# Beside them, what links to them and from them.
LINKED = PAGES | {name: read(ROOT / name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
