"""A corpus of malformed inputs by name: what is given, and what is said about it."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.bad_input import models
from tests.bad_input.noise import Bomb
from tests.bad_input.refusing import faults, said_of

pytest.importorskip("peft")
BOMB = pickle.dumps(Bomb())
Content = bytes | str | dict[str, object]


@dataclass(frozen=True)
class Bad:
    """One malformed input.

    Attributes:
        name: of the case.
        words: the command line; "x" is a folder that is copied from `of`.
        says: what the one line must say.
        files: what is written, None to remove; a dict is put over a JSON object that is there.
        of: the good folder, see `models.good_folders`.
        links: symbolic links and where they lead.
        sign: let the hashes of a preference model be right.
    """

    name: str
    words: str
    says: tuple[str, ...]
    files: tuple[tuple[str, Content | None], ...] = ()
    of: str = ""
    links: tuple[tuple[str, str], ...] = ()
    sign: bool = False


NASH = "nash-md --model x --prompts prompts.jsonl --preference tests.trainers:longer_wins"
WARM = "warm-start --model x --examples examples.jsonl"
ENCODE = "preference-train --model x --pairs pairs.jsonl --out out"
PLAY = "tournament --quiet --policies answers.jsonl others.jsonl --prompts prompts.jsonl"
SWEEP = "nash-md --sweep tau=1,2 --iterations 1 --out sweep"
W, A, H = "x/model.safetensors", "x/adapter_model.safetensors", "x/head.safetensors"
INDEX = "x/model.safetensors.index.json"
EVIL = "open('executed', 'w')\nclass C: pass\n"
AUTO = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C",
                                           "AutoModel": "evil.C"}}  # fmt: skip


def index(target: str) -> str:
    """An index that points to one file."""
    return json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": target}})


def entry(log: object) -> str:
    """A sweep's index with one run."""
    return json.dumps({"command": "nash-md", "runs": [{"log": log, "point": {"tau": 1}}]})


def bombs() -> list[Bad]:
    """Pickles in place of weights, arrays or texts."""
    found = []
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.npy"):
        for words in (NASH, WARM, ENCODE):
            files = ((W, None), (f"x/{name}", BOMB))
            said = ("no model.safetensors", "pickled")
            found.append(Bad(f"{name} {words[:9]}", words, said, files, "base"))
    for name in ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin"):
        files = ((A, None), (f"x/{name}", BOMB))
        said = ("no adapter_model.safetensors", "pickled")
        found.append(Bad(f"adapter {name}", NASH, said, files, "adapter"))
    both = ((INDEX, index("pytorch_model.bin")), (W, None), ("x/pytorch_model.bin", BOMB))
    found.append(Bad("index to a pickle", NASH, ("no safetensors file",), both, "base"))
    for name, words, of, file in (
        ("model", NASH, "base", W), ("adapter", NASH, "adapter", A),
        ("preference", f"{PLAY} --preference x", "hashed", H),
    ):  # fmt: skip
        files = ((file, BOMB),)
        found.append(Bad(f"pickle as {name}", words, ("damaged",), files, of, sign=of == "hashed"))
    pickled = ("eqprop-run b", "nash-md --game b", "compare b", "runs recover b",
                    "runs export b --out o", "export b --nir o.nir", "gradcheck --from-run b",
               "preference-train --pairs b --out o")  # fmt: skip
    found += [Bad(f"pickle: {each}", each, ("b",), (("b", BOMB),)) for each in pickled]
    array = np.array([Bomb()], dtype=object)
    readers = ("nash-md --game b.npy", "eqprop-run b.npy", "compare b.npy")
    files = (("b.npy", dumped(array)),)
    return [*found, *(Bad(f"object array: {each}", each, (), files) for each in readers)]


def dumped(array: np.ndarray) -> bytes:
    """An array of objects as `numpy.save` writes it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def paths() -> list[Bad]:
    """Names that point outside their folder."""
    found = []
    for place in ("../../../../etc/passwd", "/etc/passwd", "../good/base/model.safetensors",
                  "..", "a/../../b.safetensors", "..\\b.safetensors",
                  "\0.safetensors"):  # fmt: skip
        files = ((INDEX, index(place)), (W, None))
        said = ("no safetensors file of this folder",)
        found.append(Bad(f"index to {place!r}", NASH, said, files, "base"))
        files = (("x/config.json", {"transformers_weights": place}),)
        found.append(Bad(f"weights at {place!r}", WARM, ("elsewhere",), files, "base"))
        files = (("x/preference.json", {"sha256": {place: "0" * 64}}),)
        words = f"{PLAY} --preference x"
        found.append(Bad(f"hash of {place!r}", words, ("damaged",), files, "hashed"))
        files = (("sweep/index.json", entry(place)),)
        said = ("no index of a sweep",)
        found.append(Bad(f"run at {place!r}", SWEEP, said, files))
    for log in (1, None, "", ".", "a\udcff.h5"):
        files = (("sweep/index.json", entry(log)),)
        found.append(Bad(f"run at {log!r}", SWEEP, ("no index of a sweep",), files))
    for target in ("/etc/passwd", "../mine", "/dev/zero", "..", "nowhere"):
        found.append(Bad(f"weights linked to {target}", NASH, ("x",), ((W, None),), "base",
                         ((W, target),)))  # fmt: skip
        config = "x/config.json"
        found.append(Bad(f"config linked to {target}", NASH, ("config.json",), ((config, None),),
                         "base", ((config, target),)))  # fmt: skip
        found.append(Bad(f"head linked to {target}", f"{PLAY} --preference x", ("damaged",),
                         ((H, None),), "hashed", ((H, target),)))  # fmt: skip
    for base in ("x", "./x", "../x", "/etc", "/etc/passwd", "\0", "", "tiny:a,b"):
        files = (("x/adapter_config.json", {"base_model_name_or_path": base}),)
        found.append(Bad(f"base {base!r}", NASH, (), files, "adapter"))
    return found


CODE = [
    Bad("code of a model", NASH, ("custom code",), (("x/config.json", AUTO), ("x/evil.py", EVIL)),
        "base"),
    Bad("code of an encoder", ENCODE, ("custom code",),
        (("x/config.json", AUTO), ("x/evil.py", EVIL)), "base"),
    Bad("code of a tokenizer", NASH, ("custom code",),
        (("x/tokenizer_config.json",
          {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.C", "evil.C"]}}),
         ("x/evil.py", EVIL)), "base"),
    Bad("kernel of the hub", NASH, ("code on the hub",),
        (("x/config.json", {"attn_implementation": "evil/kernel"}),), "base"),
    Bad("adapter that imports", NASH, ("import other code",),
        (("x/adapter_config.json", {"megatron_config": {"a": 1}, "megatron_core": "evil"}),
         ("evil.py", EVIL)), "adapter"),
    Bad("template that runs a command", NASH, ("chat template", "SecurityError"),
        (("x/tokenizer_config.json",
          {"chat_template": "{{ cycler.__init__.__globals__.os.system('touch executed') }}"}),),
        "base"),
    Bad("config of seven billion", NASH, ("asks for 67", "hold 20896"),
        (("x/config.json", '{"model_type": "llama"}'),), "base"),
    Bad("layers without end", NASH, ("num_hidden_layers=1000000000",),
        (("x/config.json", {"num_hidden_layers": 10**9}),), "base"),
    Bad("head of a trillion units", f"{PLAY} --preference x", ("weights of another model",),
        (("x/preference.json", {"hidden": 10**12}),), "hashed"),
    Bad("endless config", "eqprop-run /dev/zero", ("/dev/zero", "MiB")),
    Bad("endless line", "preference-train --pairs /dev/zero --out o", ("/dev/zero:1",)),
    Bad("deep JSON", "preference-train --pairs b --out o", ("b:1", "no JSON"),
        (("b", '{"prompt":' + "[" * 100_000),)),
    Bad("deep TOML", "eqprop-run b", ("b",), (("b", "a = " + "[" * 100_000),)),
    Bad("log and model of one name", f"{NASH.replace(' x ', ' tiny:a,b,<end> ')} --out run",
        ("would be the log and the folder",)),
    Bad("long name", "nash-md --out " + "x" * 5000, ("give a shorter name",)),
    Bad("NUL in a name", "nash-md --out a\0b", ("NUL",)),
    Bad("NUL in a config", "nash-md b", ("NUL",),
        (("b", 'model = "a\\u0000"\nprompts = "prompts.jsonl"\npreference = "a:b"\n'),)),
    Bad("no UTF-8 in a name", "runs show \udcff", ("no UTF-8",)),
]  # fmt: skip
CORPUS = [*bombs(), *paths(), *CODE]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.good_folders(tmp_path_factory.mktemp("corpus") / "good")


def laid_out(bad: Bad, good: Path, here: Path) -> list[str]:
    """Write a case's files into a folder; give its command line."""
    models.texts(here)
    (here / "mine").write_bytes(b"mine")
    if bad.of:
        shutil.copytree(good / bad.of, here / "x")
    for name, content in bad.files:
        path = here / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, dict):
            path.write_text(json.dumps(json.loads(path.read_bytes()) | content))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, target in bad.links:
        os.symlink(target, here / name)
    if bad.sign:
        models.signed(here / "x")
    return bad.words.split(" ")


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: ascii(bad.name[:60]))
def test_it_is_refused(
    bad: Bad, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    words = laid_out(bad, good, here)
    assert faults(words, here, "corpus") == []
    line = said_of(words)
    assert all(each in line for each in bad.says), line
