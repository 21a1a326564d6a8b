"""Bad folders of language models, adapters and preference models, one file of each damaged."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from nlhf.language.adapters import Lora
from nlhf.language.loading import load_policy
from nlhf.language.saving import save_policy
from tests.bad_input.noise import noise
from tests.bad_input.refusing import Maker
from tests.command_line import call
from tests.policies import move

JUDGE = ["--preference", "tests.trainers:longer_wins"]
ASKED = ["--prompts", "prompts.jsonl"]
TWO = ["--policies", "answers.jsonl", "others.jsonl"]
READERS: dict[str, list[list[str]]] = {
    "policy": [
        ["nash-md", "--model", "x", *ASKED, *JUDGE],
        ["tournament", "--policies", "answers.jsonl", "x", *ASKED, *JUDGE, "--quiet"],
        ["warm-start", "--model", "x", "--examples", "examples.jsonl"],
    ],
    "encoder": [
        ["preference-train", "--model", "x", "--pairs", "pairs.jsonl", "--out", "out"],
    ],
    "preference": [
        ["tournament", *TWO, *ASKED, "--preference", "x", "--quiet"],
        ["nash-md", "--model", "tiny:a,b,<end>", *ASKED, "--preference", "x"],
    ],
}
"""Command lines that read the folder x."""


def good_folders(folder: Path) -> Path:
    """Make a small model, an adapter on it, and two preference models."""
    folder.mkdir(exist_ok=True)
    base = folder / "base"
    save_policy(load_policy("tiny:a,b,c,<end>"), base, {})
    adapter = load_policy(str(base), lora=Lora(rank=2), seed=1)
    move(adapter, 0.3)
    save_policy(adapter, folder / "adapter", {})
    texts(folder)
    for name, encoder in (("hashed", "hashed"), ("read", str(base))):
        given = ["--pairs", folder / "pairs.jsonl", "--model", encoder, "--epochs", 1, "--quiet"]
        result = call("preference-train", *given, "--out", folder / name, "--log", f"{folder}.h5",
                      "--overwrite")  # fmt: skip
        assert result.exit_code == 0, result.output
    return folder


def texts(folder: Path) -> None:
    """Write the files that the commands read beside a model."""
    rows: dict[str, list[dict[str, str]]] = {
        "prompts": [{"prompt": "a b"}],
        "answers": [{"prompt": "a b", "answer": "b"}],
        "others": [{"prompt": "a b", "answer": "c"}],
        "examples": [{"prompt": x, "completion": "b"} for x in ("a", "b")],
        "pairs": [{"prompt": f"a {i}", "chosen": "a b", "rejected": "c"} for i in range(12)],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a safetensors file apart."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(head: object, body: bytes) -> bytes:
    """Put a safetensors file together, valid or not."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def bad_safetensors(rng: random.Random, good: bytes) -> bytes:
    """A damaged safetensors file, or one with the wrong tensors."""
    head, body = header(good)
    # an encoder ends with the hidden states
    name = rng.choice([each for each in head if each not in ("__metadata__", "lm_head.weight")])
    kind = rng.randrange(9)
    if kind == 0:
        return good[: rng.randrange(len(good))]
    if kind == 1:
        return good + noise(rng) + b"x"
    if kind == 2:
        return struct.pack("<Q", rng.randrange(2**20, 2**64)) + good[8:]
    if kind == 3:
        return noise(rng)
    if kind == 4:
        return with_header(b"{" + noise(rng) + b"}", body)
    if kind == 5:
        head[name]["dtype"] = rng.choice(["F99", "", None, 1, "object", "I128"])
        return with_header(head, body)
    if kind == 6:
        begin, end = head[name]["data_offsets"]
        wrong = [[begin, end + 4], [end, begin], [-1, end], [begin], 2**70, [0, 2**63], None]
        head[name]["data_offsets"] = rng.choice(wrong)
        return with_header(head, body)
    if kind == 7:
        wrong = [[2**40, 2**40], [-1], "x", None, [], [*head[name]["shape"], 2], [1e9]]
        head[name]["shape"] = rng.choice([w for w in wrong if w != head[name]["shape"]])
        return with_header(head, body)
    found = load(good)
    if rng.random() < 0.5 or not found[name].is_floating_point():
        del found[name]
    else:
        found[name].view(-1)[rng.randrange(found[name].numel())] = rng.choice(
            [float("nan"), float("inf"), -float("inf")]
        )
    return save(found, {"format": "pt"})


WRONG: dict[str, Mapping[str, list[Any]]] = {
    "config.json": {
        "model_type": ["nope", 1, None, "t5", "bert", "../x"],
        "vocab_size": [-1, 0, 1, "x", 10**12, 1.5],
        "hidden_size": [0, -32, 10**9, "x"],
        "num_hidden_layers": [-3, 5, 10**9, "x"],
        "num_attention_heads": [0, -1, 3, 10**9],
        "intermediate_size": [10**12, -1, 3],
        "hidden_act": ["nope", 1, "__import__('os').system('touch executed')"],
        "rope_parameters": [1, {"rope_type": "nope"}],
        "max_position_embeddings": ["x", None],
        "dtype": ["x", "os"],
        "attn_implementation": ["stranger/kernel", "nope"],
        "quantization_config": [1, {"quant_method": "gptq", "bits": 4},
                                {"quant_method": "bitsandbytes", "load_in_4bit": True}],
        "transformers_weights": ["../base/model.safetensors", "/etc/passwd", 1, "x.bin"],
        "eos_token_id": ["x", [1.5], {}],
    },
    "generation_config.json": {"eos_token_id": ["x", -1, 99, [99], ["x"], {}, 1.5]},
    "tokenizer_config.json": {
        "chat_template": ["{% for", 1, "{{ ''.__class__.__mro__ }}", "{{ raise_exception('x') }}",
                          "{{ cycler.__init__.__globals__.os.system('touch executed') }}"],
        "model_max_length": ["x", [1]],
    },
    "adapter_config.json": {
        "peft_type": ["X", None, 1, "IA3"],
        "base_model_name_or_path": ["x", "../x", None, 1, "\0", "/etc", "nowhere/at/all",
                                    "tiny:a,b", "a" * 5000],
        "r": [0, -1, "x", 10**9, None, 1],
        "rank_pattern": [{"q_proj": 10**9}, [1], "x"],
        "lora_alpha": ["x", None],
        "target_modules": [["nope"], 1],
        "megatron_config": [{"a": 1}],
        "auto_mapping": [{"base_model_class": "x", "parent_library": "stranger"}],
        "init_lora_weights": ["nope"],
        "layer_replication": [[[0, 10**6]]],
        "task_type": ["X"],
    },
    "preference.json": {
        "format": [1, None, "x"],
        "version": [2, "1", None],
        "head": ["nope", None, [], 1],
        "hidden": [-1, 0, "x", 10**12, 10**30, None, [1]],
        "planes": [0, -1, 10**18, "x"],
        "encoder": [{}, None, "hashed", {"kind": "../x"}, {"kind": "hashed", "buckets": 0},
                    {"kind": "hashed", "buckets": 10**15}, {"kind": "transformer"},
                    {"kind": "transformer", "max_length": 1},
                    {"kind": "transformer", "max_length": "x"}],
        "sha256": [{}, None, 1, [], {"../../etc/passwd": "0" * 64}, {"/etc/passwd": "0" * 64}],
    },
}  # fmt: skip
"""Values that no file may have; a chat template is read by what makes text of it."""


def bad_json(rng: random.Random, name: str, good: bytes) -> bytes:
    """A settings file that is not a JSON object, or has an illegal value."""
    settings = json.loads(good)
    kind = rng.randrange(4)
    if kind == 0:
        return good[: rng.randrange(len(good.rstrip()))]
    if kind == 1:
        return rng.choice([b"null", b"[]", b"1", b'"x"', b"[{}]", b"\xff", b""]) + noise(rng)
    key = rng.choice(list(WRONG[name]))
    settings[key] = rng.choice(WRONG[name][key])
    return json.dumps(settings).encode()


def signed(folder: Path) -> None:
    """Update the hashes in a preference model's description."""
    path = folder / "preference.json"
    facts = json.loads(path.read_bytes())
    facts["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in facts["sha256"]
    }
    path.write_text(json.dumps(facts))


def makers(good: Path) -> dict[str, Maker]:
    """One maker per kind of folder."""

    def maker(kind: str, name: str, readers: str, files: list[str]) -> Callable[..., list[str]]:
        def make(rng: random.Random, here: Path) -> list[str]:
            shutil.copytree(good / name, here / "x")
            texts(here)
            words, file = rng.choice(READERS[readers]), rng.choice(files)
            path = here / "x" / file
            damage = path.read_bytes()
            if file.endswith(".safetensors"):
                path.write_bytes(bad_safetensors(rng, damage))
                if kind == "preference" and rng.random() < 0.5:
                    signed(here / "x")
            else:
                path.write_bytes(bad_json(rng, file, damage))
            return words

        return make

    weights, config = "model.safetensors", "config.json"
    model = [weights, config, "generation_config.json", "tokenizer_config.json"]
    adapter = ["adapter_model.safetensors", "adapter_config.json"]
    described = ["head.safetensors", "preference.json"]
    return {
        "policy": maker("policy", "base", "policy", model),
        "encoder": maker("encoder", "base", "encoder", [weights, config]),
        "adapter": maker("adapter", "adapter", "policy", adapter),
        "adapter as encoder": maker("adapter", "adapter", "encoder", adapter),
        "preference, hashed words": maker("preference", "hashed", "preference", described),
        "preference, a model": maker("preference", "read", "preference", described),
    }
