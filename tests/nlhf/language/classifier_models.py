"""Tiny random sequence classifiers and their tokenizers, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch

from nlhf.language.extras import need

WORDS = ["good", "bad", "fine", "poor", "why", "now", "user", "assistant", "|"]
CHAT = "{% for m in messages %}{{ m['role'] }} | {{ m['content'] }} <eos> {% endfor %}"


def save_classifier(
    folder: Path,
    kind: str = "encoder",
    outputs: int = 1,
    *,
    chat: str | None = None,
    pad: bool = False,
    labels: list[str] | None = None,
    spread: float = 0.5,
    context: int = 32,
) -> Path:
    """A BERT or a Llama with a head of so many outputs, weights of one seed."""
    transformers, tokenizers = need("transformers"), need("tokenizers")
    special = ["[UNK]", "[CLS]", "[SEP]"] if kind == "encoder" else ["[UNK]", "<eos>"]
    special += ["<pad>"] if pad else []
    vocabulary = {word: i for i, word in enumerate((*special, *WORDS))}
    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    named = {"eos_token": "<eos>"} if kind == "causal" else {}
    if kind == "encoder":
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        rules.post_processor = tokenizers.processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if kind == "encoder" else [])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rules, model_input_names=names, **named, **({"pad_token": "<pad>"} if pad
        else {})
    )  # fmt: skip
    tokenizer.chat_template = chat
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    size |= {"intermediate_size": 32, "vocab_size": 16, "max_position_embeddings": context}
    size |= {"num_labels": outputs, "initializer_range": spread}
    size |= {"pad_token_id": vocabulary["<pad>"] if pad else None}
    if labels is not None:
        size["id2label"] = dict(enumerate(labels))
        size["label2id"] = {label: i for i, label in enumerate(labels)}
    torch.manual_seed(0)
    if kind == "encoder":
        size["pad_token_id"] = size["pad_token_id"] or 0
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**size))
    else:
        model = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
