"""The pages of docs/export.md in Chromium, with the packages of npm, give what `predict` gives."""

import json
import random
import re
import shutil
import subprocess
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from architectures import N_LAYERS, TEXTS, WIDTH
from exports import PIECES, Exported, expected, head_on

from pipeline.export.export import export

NPM = shutil.which("npm")
pytestmark = pytest.mark.skipif(NPM is None, reason="no npm on this machine")

PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
PAGES = dict(
    zip(
        ("transformers.js", "onnxruntime-web"),
        re.findall(r"^```html\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL),
        strict=True,
    )
)
# As they belong together: transformers.js asks for this very version of the runtime.
PACKAGES = {
    "@huggingface/transformers": "4.3.2",
    "@huggingface/tokenizers": "0.2.0",
    "onnxruntime-web": "1.31.0-dev.20260914-8d85527a0",
}
RAW = (
    *TEXTS,
    "@ana_b I\\u2019m in &lt;3 https://t.co/x1 &amp;amp; &eacute; AT&T (mail a@b.org @5 $AAPL)",
    "[SEP] [CLS] [MASK] </s> the end 👩‍👩‍👧 ❤️",
    '</script><script>alert("&amp;")</script> \u202e e' + "\u0301" * 300,
    " \n ",
)


@pytest.fixture(scope="module")
def node_modules():
    """The packages as npm lays them out; kept in the user's cache, some 35 MB."""
    kept = platformdirs.user_cache_path("frostline-tests") / "npm"
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / "-".join(version for version in PACKAGES.values())
    if folder.exists():
        return folder
    aside = folder.with_name(f".new-{threading.get_native_id()}")
    shutil.rmtree(aside, ignore_errors=True)
    for name, version in PACKAGES.items():
        target = aside / name
        target.mkdir(parents=True)
        try:
            packed = subprocess.run(
                [NPM, "pack", "--silent", "--ignore-scripts", f"{name}@{version}"],
                capture_output=True,
                text=True,
                cwd=aside,
                timeout=300,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            pytest.skip(f"npm gives no {name}@{version}: {error}")
        archive = aside / packed.stdout.split()[-1]
        with tarfile.open(archive) as opened:
            for member in opened.getmembers():
                if member.name.startswith("package/dist/") and not member.name.endswith(".map"):
                    member.name = member.name.removeprefix("package/")
                    opened.extract(member, target, filter="data")
        archive.unlink()
    try:
        aside.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(aside, ignore_errors=True)
    return folder


class Files(SimpleHTTPRequestHandler):
    """The files of a folder; silent."""

    def guess_type(self, path):
        kinds = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return kinds.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def opened(browser, node_modules, tmp_path):
    """Give what opens a page beside an export; all that is asked for comes from there."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "node_modules").symlink_to(node_modules)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Files(*arguments, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    asked, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))

    def open_page(content, folder):
        (site / "sentiment").symlink_to(folder)
        (site / "index.html").write_text(content, encoding="utf-8")
        page.goto(address)
        return page

    yield open_page
    page.close()
    server.shutdown()
    server.server_close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def scored(opened, page, folder, texts):
    """What a page of the documentation finds, with other texts in it."""
    listed = json.dumps(texts).replace("<", r"\u003c")
    content, n = re.subn(
        r"const texts = \[.*\];", lambda _: f"const texts = {listed};", PAGES[page]
    )
    assert n == 1
    shown = opened(content, folder)
    shown.wait_for_function("document.querySelector('#found').textContent !== ''", timeout=120_000)
    return json.loads(shown.locator("#found").text_content())


def as_matrix(found, labels):
    return np.array(
        [[{one["label"]: one["score"] for one in row}[k] for k in labels] for row in found]
    )


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "name",
    [
        "bert",
        pytest.param("xlm-roberta", marks=pytest.mark.slow),
        pytest.param("roberta", marks=pytest.mark.slow),
    ],
)
def test_a_page_gives_what_predict_gives(page, name, opened, tiny_model, tmp_path):
    views = ["cls", "mean", "mean-content@last2+concat", "max"]
    head = head_on(tiny_model(name), views, n_layers=N_LAYERS, width=WIDTH, max_length=24)
    export(head, tmp_path / "out")
    found = scored(opened, page, tmp_path / "out", list(RAW))
    np.testing.assert_allclose(as_matrix(found, head.labels), expected(head, RAW), atol=1e-4)


READ = """
async (texts) => {
  const library = "./node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs";
  const { Tokenizer } = await import(library);
  const { prepare } = await import("./sentiment/prepare.js");
  const file = async (name) => (await fetch(`./sentiment/${name}`)).json();
  const files = [await file("tokenizer.json"), await file("tokenizer_config.json")];
  const tokenizer = new Tokenizer(...files);
  return texts.map((text) => [prepare(text), tokenizer.encode(prepare(text)).ids]);
}
"""


# What JavaScript takes for a blank and Unicode does not, and the other way round.
OTHER_BLANKS = "\x85\ufeff"


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("bert", ""),
        *(
            pytest.param(name, "", marks=pytest.mark.slow)
            for name in ("roberta", "modernbert", "mpnet")
        ),
        # Those that cut texts at blanks, by SentencePiece.
        *(
            pytest.param(name, OTHER_BLANKS, marks=pytest.mark.slow)
            for name in ("xlm-roberta", "albert", "deberta-v2", "camembert")
        ),
    ],
)
def test_texts_are_read_as_in_python(name, left_out, opened, tiny_model, tmp_path):
    """Before the graph cuts them; it has the rules for the rest."""
    head = head_on(tiny_model(name), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    export(head, tmp_path / "out")
    exported = Exported(tmp_path / "out")
    exported.tokenizer.no_truncation()
    exported.tokenizer.no_padding()
    rng, pieces = random.Random(0), [piece for piece in PIECES if piece not in [*left_out]]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(16))) for _ in range(3000)]
    texts += [*RAW, "e" + "\u0301" * 12_000, "&amp;" * 3_000, "😀 " * 6_000]
    found = opened("<!doctype html>", tmp_path / "out").evaluate(READ, texts)
    ids = [one.ids for one in exported.ids(texts)]
    wrong = [
        text
        for text, (prepared, theirs), mine in zip(texts, found, ids, strict=True)
        if prepared != exported.prepare(text) or theirs != mine
    ]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_packaged_model_gives_what_predict_gives(page, opened, minilm, tmp_path):
    head = head_on(
        minilm,
        ["mean@last4+concat", "cls"],
        n_layers=6,
        width=384,
        store_dtype="float16",
        labels=["negative", "neutral", "positive"],
    )
    export(head, tmp_path / "out")
    found = scored(opened, page, tmp_path / "out", list(RAW))
    np.testing.assert_allclose(as_matrix(found, head.labels), expected(head, RAW), atol=1e-4)
