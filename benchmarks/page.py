"""What a reader waits for on a report page: first paint, the map, and answers to a pointer.

    python benchmarks/page.py report.html [--rounds 5]

`frostline report` makes the page. It is opened from its file in headless Chromium, each round in a
new window. A hover is timed from the pointer's move to the text's layout; the pointer goes over the
map in 100 steps.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import click
from playwright.sync_api import Browser, sync_playwright

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
READY = "performance.now()"
HOVERS = """() => {
  const canvas = document.getElementById("canvas"), tip = document.getElementById("tip");
  const box = canvas.getBoundingClientRect(), times = [];
  for (let n = 0; n < 100; n++) {
    const place = { clientX: box.x + (box.width * n) / 100, clientY: box.y + box.height / 2 };
    const start = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", { ...place, bubbles: true }));
    tip.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  return times;
}"""


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
def main(page: Path, rounds: int) -> None:
    """Time a page as its reader sees it."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = [opened(browser, page) for _ in range(rounds)]
        version = browser.version
        browser.close()
    paints, readies, hovers = zip(*found, strict=True)
    click.echo(f"{page.stat().st_size / 1e6:.2f} MB, Chromium {version}; milliseconds")
    for name, times in (("first paint", paints), ("the map is there", readies)):
        click.echo(f"  {name:<20} median {statistics.median(times):6.0f}   most {max(times):6.0f}")
    every = [time for times in hovers for time in times]
    click.echo(f"  {'hover':<20} median {statistics.median(every):6.1f}   most {max(every):6.1f}")


def opened(browser: Browser, page: Path) -> tuple[float, float, list[float]]:
    """Open the page, and give when it was painted, when the map was there, and the hovers."""
    window = browser.new_page(viewport={"width": 1440, "height": 900})
    window.goto(page.resolve().as_uri())
    window.wait_for_selector("html[data-map=ready]")
    times = window.evaluate(PAINT), window.evaluate(READY), window.evaluate(HOVERS)
    window.close()
    return times


if __name__ == "__main__":
    main()
