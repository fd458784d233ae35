"""Tiny models with random weights, one an architecture, and the plain forward pass they must match.

A new architecture is tested by adding it to `ARCHITECTURES`.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from features.backends.eager.stock_model import StockModel, load
from features.spec.checkpoint import find_checkpoint

# What the tokenizers know: enough that the texts below fall into words, pieces and unknowns.
CORPUS = (
    "the bus is late again and i am so done with waiting in the rain",
    "what a lovely day, best concert ever! so happy for you two",
    "worst film of the year; i wanted to love it, i really did",
    "not bad at all, actually. not good either, just fine",
    "@user the council meets on tuesday at 6 pm in the old library http",
    "coffee first, then the meeting, then more coffee, then the train home",
    "ok. ¿alguien sabe a qué hora abre la biblioteca mañana?",
)
WORDS = tuple(
    dict.fromkeys(word for line in CORPUS[::-1] for word in re.findall(r"\w+|[^\w\s]", line))
)[:70]
# Very different lengths: an empty text, a single character, emoji, one far over every max_length.
TEXTS = (
    "so happy for you",
    "",
    "🎉❤️ 🤷🏽‍♀️",
    "The bus is late AGAIN. thanks for nothing, @user http",
    "ok",
    "the old library in the rain and the train home and more coffee " * 12,
    "¿Qué día es mañana? naïve café — “quoted” …",
    "a",
    "not bad at all, actually. not good either, just fine",
    "東京 is far away",
)
POSITIONS = 40  # tokens that each tiny model can read


# WordPiece and Unigram vocabularies are written down rather than trained: their trainers give
# another one in every process, and a failure must be there again in the next run.
def wordpiece(special: Sequence[str]) -> dict[str, int]:
    characters = sorted({character for word in WORDS for character in word})
    pieces = [*special, *characters, *(f"##{c}" for c in characters), "##ing", "##ee", "##th"]
    return {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *WORDS]))}


def byte_bpe(special: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    numbered = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return dict(numbered), [tuple(merge) for merge in merges]


def unigram(special: Sequence[str]) -> list[tuple[str, float]]:
    pieces = dict.fromkeys(special, 0.0)
    pieces |= dict.fromkeys(sorted({c for word in WORDS for c in word} | {"▁"}), -9.0)
    pieces |= {f"▁{word}": -4.0 - len(word) / 8 for word in WORDS}
    return list(pieces.items())


_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def bert_tokenizer(folder: Path) -> Any:
    return transformers.BertTokenizer(vocab=wordpiece(_BERT))


def mpnet_tokenizer(folder: Path) -> Any:
    vocab = wordpiece(("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))
    return transformers.MPNetTokenizer(vocab=vocab)


def roberta_tokenizer(folder: Path) -> Any:
    vocab, merges = byte_bpe(_ROBERTA)
    return transformers.RobertaTokenizer(vocab=vocab, merges=merges)


def deberta_tokenizer(folder: Path) -> Any:
    vocab, merges = byte_bpe(_BERT)
    return transformers.DebertaTokenizer(vocab=vocab, merges=merges)


def modernbert_tokenizer(folder: Path) -> Any:
    vocab, merges = byte_bpe(_BERT)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, _BERT, strict=True))
    )


def xlm_roberta_tokenizer(folder: Path) -> Any:
    return transformers.XLMRobertaTokenizer(vocab=unigram(_ROBERTA))


def camembert_tokenizer(folder: Path) -> Any:
    return transformers.CamembertTokenizer(vocab=unigram(_ROBERTA))


def albert_tokenizer(folder: Path) -> Any:
    vocab = unigram(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))
    return transformers.AlbertTokenizer(vocab=vocab)


def deberta_v2_tokenizer(folder: Path) -> Any:
    return transformers.DebertaV2Tokenizer(vocab=unigram(_BERT))


def bertweet_tokenizer(folder: Path) -> Any:
    """Pure Python: there is no tokenizer.json for it."""
    vocab, merges = folder / "vocab.source", folder / "bpe.source"
    characters = sorted(set("".join(CORPUS)) - {" "})
    pieces = [p for c in characters for p in (c, f"{c}@@")] + ["the", "th@@", "so", "ok"]
    vocab.write_text("".join(f"{piece} 1\n" for piece in pieces))
    # Loading drops the count at a line's end, and saving does not put it back: so there are two.
    merges.write_text("t h 9 9\nth e</w> 8 8\ns o</w> 7 7\no k</w> 6 6\n")
    return transformers.BertweetTokenizer(str(vocab), str(merges))


def japanese_tokenizer(folder: Path) -> Any:
    """Pure Python too; with `basic` words, it needs no further packages."""
    vocab = folder / "vocab.source"
    vocab.write_text("\n".join(wordpiece(_BERT)))
    return transformers.BertJapaneseTokenizer(
        str(vocab), word_tokenizer_type="basic", subword_tokenizer_type="wordpiece"
    )


@dataclass(frozen=True)
class Architecture:
    """How to build a tiny model.

    Attributes
    ----------
    config : type
        Its configuration.
    tokenizer : callable
        Builds its tokenizer, given a folder for files that it needs for that.
    layers : str, optional
        Where the modules lie that its forward pass runs one after another; shared ones run often.
        None where their inputs are not the hidden states, so that whole passes must be run.
    pooler : bool
        Whether the architecture has a trained pooler.
    options : dict
        For the configuration, beside the sizes that all have.
    """

    config: type
    tokenizer: Callable[[Path], Any]
    layers: str | None = "encoder.layer"
    pooler: bool = False
    options: dict[str, Any] = field(default_factory=dict)


_ROBERTA_IDS = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "type_vocab_size": 1,
    # Positions are numbered from the padding id + 1.
    "max_position_embeddings": POSITIONS + 2,
}

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(transformers.BertConfig, bert_tokenizer, pooler=True),
    "roberta": Architecture(
        transformers.RobertaConfig, roberta_tokenizer, pooler=True, options=_ROBERTA_IDS
    ),
    "xlm-roberta": Architecture(
        transformers.XLMRobertaConfig, xlm_roberta_tokenizer, pooler=True, options=_ROBERTA_IDS
    ),
    "camembert": Architecture(
        transformers.CamembertConfig, camembert_tokenizer, pooler=True, options=_ROBERTA_IDS
    ),
    "bertweet": Architecture(
        transformers.RobertaConfig, bertweet_tokenizer, pooler=True, options=_ROBERTA_IDS
    ),
    "bert-japanese": Architecture(transformers.BertConfig, japanese_tokenizer, pooler=True),
    "distilbert": Architecture(
        transformers.DistilBertConfig,
        bert_tokenizer,
        layers="transformer.layer",
        options={"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48},
    ),
    "electra": Architecture(
        # Narrower embeddings are projected before the first layer.
        transformers.ElectraConfig,
        bert_tokenizer,
        options={"embedding_size": 24},
    ),
    "mpnet": Architecture(
        transformers.MPNetConfig,
        mpnet_tokenizer,
        pooler=True,
        options=_ROBERTA_IDS,
    ),
    "deberta": Architecture(
        transformers.DebertaConfig,
        deberta_tokenizer,
        options={
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "deberta-v2": Architecture(
        transformers.DebertaV2Config,
        deberta_v2_tokenizer,
        options={
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "position_buckets": 8,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "conv_kernel_size": 3,  # a convolution over the tokens, between layers
            "conv_act": "gelu",
            "type_vocab_size": 0,
        },
    ),
    "modernbert": Architecture(
        transformers.ModernBertConfig,
        modernbert_tokenizer,
        layers="layers",
        options={
            "pad_token_id": 0,
            "cls_token_id": 2,
            "bos_token_id": 2,
            "sep_token_id": 3,
            "eos_token_id": 3,
            "local_attention": 8,  # every other layer sees four tokens to each side
            "global_attn_every_n_layers": 2,
        },
    ),
    "megatron-bert": Architecture(
        # Norms come first in a layer, and one more stands behind the last.
        transformers.MegatronBertConfig,
        bert_tokenizer,
        pooler=True,
    ),
    "squeezebert": Architecture(
        # Its layers work on transposed states.
        transformers.SqueezeBertConfig,
        bert_tokenizer,
        layers=None,
        pooler=True,
        options={"embedding_size": 32},
    ),
    "albert": Architecture(
        transformers.AlbertConfig,
        albert_tokenizer,
        layers="encoder.albert_layer_groups",
        pooler=True,
        options={
            "embedding_size": 16,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
}
N_LAYERS, WIDTH = 4, 32


def build(architecture: Architecture, folder: Path) -> Path:
    """Save the tiny model of an architecture with its tokenizer; the same weights every time."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = architecture.tokenizer(folder)
    tokenizer.model_max_length = POSITIONS
    config = architecture.config(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": POSITIONS,
            "pad_token_id": tokenizer.pad_token_id,
            **architecture.options,
        }
    )
    torch.manual_seed(7)
    model = transformers.AutoModel.from_config(config)
    roughen(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stock_model(folder: Path) -> StockModel:
    """Load a saved model as the encoder does."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    probe = tokenizer(TEXTS[0])["input_ids"]
    return load(find_checkpoint(folder), probe, tokenizer.pad_token_id)


def variant(folder: Path, target: Path, **changes: dict[str, Any]) -> Path:
    """Copy a model, and change its JSON files: `config={"num_attention_heads": 2}`."""
    shutil.copytree(folder, target)
    for name, change in changes.items():
        path = target / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return target


def roughen(model: torch.nn.Module) -> None:
    """Take fresh weights away from 0, 1 and tiny: so that every part of the model matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)


@dataclass(frozen=True)
class Plain:
    """What a plain forward pass of one text leaves behind.

    Attributes
    ----------
    states : list of Tensor (T, H)
        The hidden states, those of the embedding layer first.
    content : Tensor (T,), bool
        False at special tokens.
    pooler : Tensor (H,), optional
        The pooler's output.
    """

    states: list[torch.Tensor]
    content: torch.Tensor
    pooler: torch.Tensor | None


def plain_forward(folder: Path, texts: Sequence[str], max_length: int) -> list[Plain]:
    """Run transformers as its documentation says: one text at a time, so nothing is padded."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in texts:
        tokens = tokenizer(
            text,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
        special = tokens.pop("special_tokens_mask")[0].bool()
        with torch.no_grad():
            output = model(**tokens, output_hidden_states=True)
        states = [state[0] for state in output.hidden_states]
        pooler = output.get("pooler_output")
        found.append(Plain(states, ~special, None if pooler is None else pooler[0]))
    return found
