"""A whole training step compared with TRL 1.13's NashMDTrainer: time and memory, full and LoRA.

    PYTHONPATH=. python benchmarks/trainer_step.py [--layers N] [--width N] [--steps N] [--repeat N]

Both use the same random Llama, the same reward model (a Llama with a score, P = sigmoid of the
difference) and the same prompts. A step has 4 prompts of 32 tokens, each with one answer of the
policy and one of the mixture, of 32 or 128 tokens; Adam, float32. Time is CPU seconds per step on
one thread, without the first step, the smallest of the repeats, which are taken in turns. Memory is
the process's peak, minus its memory with both models loaded. Needs TRL: pip install trl==1.13.0
(the last release with Nash-MD).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from nlhf.language.adapters import Lora, with_adapter
from nlhf.language.loading import quiet, tiny_model

PROMPTS, PROMPT, VOCABULARY, WEIGHT, TAU, RATE = 4, 32, 1000, 0.5, 0.1, 1e-4
TARGETS = ("q_proj", "v_proj")


def words() -> list[str]:
    return [*(f"w{i}" for i in range(VOCABULARY - 1)), "<end>"]


def prompts(count: int) -> list[str]:
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY - 1, (count, PROMPT), generator=g).tolist()
    return [" ".join(f"w{i}" for i in row) for row in ids]


def models(layers: int, width: int) -> tuple[Any, Any, Any]:
    """The policy, its tokenizer and the reward model."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"layers": layers, "width": width, "heads": 4, "context": 1024}
    model, tokenizer = tiny_model(words(), **shape)
    tokenizer.pad_token = "w0"
    # like large models at first: answers seldom end
    for parameter in model.parameters():
        parameter.data.mul_(0.1)
    config = transformers.LlamaConfig(**{**model.config.to_dict(), "num_labels": 1})
    config.pad_token_id = 0
    return model, tokenizer, transformers.LlamaForSequenceClassification(config)


def ours(args: argparse.Namespace) -> Callable[[], Any]:
    import copy

    from bridge.distributed import Group
    from bridge.optim import Optimizer
    from nlhf.language.decoding import Sampling
    from nlhf.language.judging import FunctionJudge
    from nlhf.language.objectives import constant
    from nlhf.language.objectives.nash_md import NashMD
    from nlhf.language.policy import Policy
    from nlhf.language.trainer import Batching, Trainer

    model, tokenizer, scorer = models(args.layers, args.width)
    end = VOCABULARY - 1

    @torch.no_grad()
    def rewards(questions: Any, answers: Any) -> torch.Tensor:
        texts = [f"{x} {y}" for x, y in zip(questions, answers, strict=True)]
        given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        return scorer(given["input_ids"], attention_mask=given["attention_mask"]).logits[:, 0]

    def judge(questions: Any, a: Any, b: Any) -> torch.Tensor:
        both = rewards([*questions, *questions], [*a, *b])
        return torch.sigmoid(both[: len(a)] - both[len(a) :])

    with quiet():
        reference = None if args.lora else copy.deepcopy(model)
        model = with_adapter(model, Lora(8, 16.0, TARGETS)) if args.lora else model
    policy = Policy(model, reference, tokenizer, (end,), 0, chat=False)
    trainer = Trainer(
        policy=policy,
        prompts=prompts(64),
        judge=FunctionJudge(judge, "reward"),
        reward=None,
        objective=NashMD(tau=constant(TAU), mixture=constant(WEIGHT), samples=1, baseline="half"),
        sampling=Sampling(args.tokens),
        batching=Batching(PROMPTS),
        optimizer=Optimizer(dict(policy.trainable()), method="adam", learning_rate=RATE),
        order=torch.Generator().manual_seed(0),
        draws=torch.Generator().manual_seed(1),
        group=Group(),
    )
    return trainer.step


def trl(args: argparse.Namespace) -> Callable[[], Any]:
    import copy

    import datasets
    import peft
    from trl.experimental.nash_md import NashMDConfig, NashMDTrainer

    model, tokenizer, scorer = models(args.layers, args.width)
    rows = datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts(64)])
    folder = tempfile.mkdtemp()
    lora = {"r": 8, "lora_alpha": 16, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"}
    chosen = NashMDConfig(
        output_dir=folder,
        per_device_train_batch_size=PROMPTS,
        max_new_tokens=args.tokens,
        max_length=PROMPT + args.tokens,
        temperature=1.0,
        mixture_coef=WEIGHT,
        beta=TAU,
        learning_rate=RATE,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=10**6,
    )
    trainer = NashMDTrainer(
        model=model,
        ref_model=None if args.lora else copy.deepcopy(model),
        reward_funcs=scorer,
        args=chosen,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(**lora) if args.lora else None,
    )
    trainer.create_optimizer()
    batches = iter(trainer.get_train_dataloader())

    def step() -> None:
        trainer.training_step(trainer.model, next(batches))
        trainer.optimizer.step()
        trainer.model.zero_grad()

    return step


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(args: argparse.Namespace) -> None:
    """Measure one side, in its own process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    step = {"ours": ours, "trl": trl}[args.side](args)
    before = _memory()
    step()
    times = []
    for _ in range(args.steps):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    print(json.dumps({"seconds": min(times), "memory": (_memory() - before) / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=32, help=argparse.SUPPRESS)
    parser.add_argument("--lora", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return measure(args)
    print("| weights | tokens | TRL 1.13, s | ours, s | ratio | MiB, TRL | MiB, ours |")
    print("|---|---|---|---|---|---|---|")
    for lora in (False, True):
        for tokens in (32, 128):
            best: dict[str, dict[str, float]] = {}
            for _ in range(args.repeat):
                for side in ("trl", "ours"):
                    found = _measured_apart(args, side, tokens, lora)
                    kept = best.setdefault(side, found)
                    best[side] = {key: min(kept[key], found[key]) for key in found}
            a, b = best["trl"], best["ours"]
            ratio = a["seconds"] / b["seconds"]
            cells = [f"{a['seconds']:.3f}", f"{b['seconds']:.3f}", f"{ratio:.2f}"]
            cells += [f"{a['memory']:.0f}", f"{b['memory']:.0f}"]
            kind = "LoRA" if lora else "full"
            print(f"| {kind} | {tokens} | " + " | ".join(cells) + " |", flush=True)
    return None


def _measured_apart(
    args: argparse.Namespace, side: str, tokens: int, lora: bool
) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__)), "--side", side]
    command += ["--tokens", str(tokens), "--layers", str(args.layers), "--width", str(args.width)]
    command += ["--steps", str(args.steps), *(["--lora"] if lora else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
