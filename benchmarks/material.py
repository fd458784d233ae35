"""What the benchmarks run on: texts, model folders, and the memory that a process has held.

Importing this loads neither torch nor transformers, so that a parent process stays small and its
children's peaks are their own.
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from features.spec.checkpoint import DEFAULT_MODEL, find_checkpoint
from features.tweets.reader import Tweet, TweetReader

# Configs of BERTs with random weights. Speed and memory don't depend on what a model has learned.
RANDOM_BERTS: dict[str, dict[str, int]] = {
    "bert-base": {},
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
    },
    "smallest": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 64,
    },
}
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
)
_WORDS = (
    "the a my your this that train bus film game match song phone weather coffee council queue "
    "morning night week year is was will be feels looks sounds never always really not so too "
    "late great awful fine lovely boring cold warm broken again today tomorrow finally at in "
    "for with and but because when nobody everyone thanks sorry please lol honestly #monday "
    "#win @user"
)


def read_texts(path: Path, limit: int) -> list[str]:
    """Give the first `limit` different texts of a file of tweets."""
    rows = (row.text for row in TweetReader([path]) if isinstance(row, Tweet))
    texts: dict[str, None] = {}
    for text in rows:
        texts[text] = None
        if len(texts) == limit:
            break
    return list(texts)


def make_texts(n: int) -> list[str]:
    """Make n different texts of the lengths of tweets, always the same ones."""
    return list(islice(_sentences(), n))


def _sentences() -> Iterator[str]:
    draw = random.Random(0)
    vocabulary = _WORDS.split()
    for number in count():
        words = draw.choices(vocabulary, k=draw.randint(3, 24))
        yield f"{' '.join(words)} {number}"


def write_csv(path: Path, texts: list[str]) -> Path:
    """Write texts, which hold neither quotes nor line breaks, as a CSV with the column `text`."""
    with path.open("w", encoding="utf-8") as file:
        file.write("text\n")
        file.writelines(f'"{text}"\n' for text in texts)
    return path


def model_folder(name: str, scratch: Path) -> Path:
    """Find a model, or make it: one of `RANDOM_BERTS` is written to a folder in `scratch`.

    Making one loads torch; see `extract.py` for a process of its own.
    """
    if name not in RANDOM_BERTS:
        return find_checkpoint(name).folder
    import torch
    from transformers import BertConfig, BertModel, logging

    folder = scratch / name
    torch.manual_seed(0)
    logging.disable_progress_bar()
    BertModel(BertConfig(**RANDOM_BERTS[name])).save_pretrained(folder)
    packaged = find_checkpoint(DEFAULT_MODEL).folder  # its vocabulary is BERT's, 30,522 pieces
    for file in _TOKENIZER_FILES:
        shutil.copy(packaged / file, folder)
    return folder


def peak_mib(usage: resource.struct_rusage) -> float:
    """Most memory that a process held at once, in MiB; Linux counts it in KiB, macOS in bytes."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
