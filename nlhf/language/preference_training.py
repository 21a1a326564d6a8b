"""Fit a preference model to votes; one object holds the full training state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.assessment import Assessment, Logits, assess
from nlhf.language.comparisons import Comparison, shares, weights
from nlhf.language.encoders import Segments
from nlhf.language.pair_facts import Facts
from nlhf.language.preference_models import PreferenceModel
from nlhf.language.prompts import Prompt


class AbstractOptimizer(Protocol):
    """Moves parameters along updates, which estimate minus the gradient."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        ...

    def step(self, updates: Mapping[str, Tensor]) -> None:
        """Move every parameter along its update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        ...


@dataclass(frozen=True)
class StepRecord:
    """One update: loss in nats per vote and accuracy on its own batch, before the update."""

    step: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: means over its updates, and the model's performance on held-out comparisons.

    `check_loss` selects the epoch to keep. Columns without comparisons are NaN. `longer` is the
    accuracy of the rule "the answer with more letters wins".
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    check_loss: float
    eval_loss: float
    eval_accuracy: float
    longer: float
    ece: float
    cyclic_triads: float
    cyclic_energy: float


@dataclass(frozen=True)
class BinRecord:
    """A row of the final reliability table: confidence against agreement."""

    step: int
    low: float
    high: float
    count: int
    confidence: float
    agreement: float


@dataclass
class Fit:
    """A training in progress. Fields outside `state` never change.

    Attributes:
        model: trained in place.
        learn, check, held: comparisons to learn from, those that select the best epoch (the last
            one if there are none), and those for the final assessment.
        optimizer: optimizer of `model.learns()`.
        order: returns the order of `learn` in an epoch, counted from 1; deterministic.
        epochs, batch_size: length of the training and batch size.
        facts: facts about the comparisons.
        epoch, position, step: the epoch, batches done in it, and total updates.
        sums: loss, accuracy and votes summed over this epoch.
        best_epoch, best_loss, best: the best epoch so far, its loss on `check` and its weights.
    """

    model: PreferenceModel
    learn: Sequence[Comparison]
    check: Sequence[Comparison]
    held: Sequence[Comparison]
    optimizer: AbstractOptimizer
    order: Callable[[int], Tensor]
    epochs: int
    batch_size: int
    facts: Facts = field(default_factory=Facts)
    epoch: int = 1
    position: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_epoch: int = 0
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def batches(self) -> int:
        """Number of updates per epoch."""
        return math.ceil(len(self.learn) / self.batch_size)

    @property
    def seen(self) -> int:
        """Number of comparisons processed so far, with repetitions."""
        return (self.epoch - 1) * len(self.learn) + self.position * self.batch_size

    @property
    def done(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch > self.epochs

    def state(self) -> dict[str, Any]:
        """What a resumed training needs: {"tensors": by name, "numbers": JSON values}."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model/{name}": p.detach() for name, p in self.model.learns().items()}
        tensors |= {f"optimizer/{name}": t for name, t in optimizer["buffers"].items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        if not self.best:
            del numbers["best_loss"]  # infinite, which JSON cannot represent
        return {"tensors": tensors, "numbers": {**numbers, "optimizer_steps": optimizer["steps"]}}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a value of `state`.

        Raises:
            InputError: it belongs to another model.
        """
        numbers = state["numbers"]
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
        for name, tensor in state["tensors"].items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        own = self.model.learns()
        if parts["model"].keys() != own.keys():
            raise InputError("this state belongs to another preference model")
        for name, parameter in own.items():
            parameter.copy_(parts["model"][name])
        optimizer = {"steps": numbers["optimizer_steps"], "buffers": parts["optimizer"]}
        self.optimizer.load_state_dict(optimizer)
        self.best = {name: tensor.clone() for name, tensor in parts["best"].items()}
        for name in _NUMBERS:
            if name in numbers:
                setattr(self, name, type(getattr(self, name))(numbers[name]))
        if [type(each) for each in self.sums] != [float] * 3:
            raise InputError(f"this state has sums of {self.sums}")


_NUMBERS = ("epoch", "position", "step", "sums", "best_epoch", "best_loss")


@dataclass(frozen=True)
class _Table:
    """The distinct rows of all comparisons, with their features if these never change.

    `first`, `second`, `share` and `votes` belong to the comparisons to learn from.
    """

    rows: list[Segments]
    number: dict[Segments, int]
    first: Tensor
    second: Tensor
    features: Tensor | None
    share: Tensor
    votes: Tensor


def fit(
    state: Fit,
    *,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    after: Callable[[], bool] = lambda: False,
    advance: Callable[[int], None] = lambda comparisons: None,
    read: Callable[[int], None] = lambda rows: None,
) -> Assessment | None:
    """Maximise the likelihood of the votes over epochs of shuffled comparisons.

    loss = - sum_i votes_i (share_i log P_i + (1 - share_i) log(1 - P_i)) / sum_i votes_i

    Args:
        state: updated in place; may be at any point of the training.
        on_step: called with the record of every update.
        on_epoch: called with the record of every epoch.
        after: called after every complete update, at the end of an epoch after its record;
            returning True stops the training.
        advance: called with the number of comparisons in each update.
        read: called with the number of rows that a frozen encoder has read before the first update.

    Returns:
        The held-out assessment of the best epoch, whose weights the model now has; None if nothing
        is held out, or if `after` stopped the training.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    table = _table(state, read)
    parameters, logits = state.model.learns(), _logits(state.model, table)
    while not state.done:
        order = state.order(state.epoch)
        while state.position < state.batches:
            start = state.position * state.batch_size
            numbers = order[start : start + state.batch_size]
            rate = state.optimizer.learning_rate
            loss, accuracy = _update(state, table, numbers, parameters)
            state.step, state.position = state.step + 1, state.position + 1
            size = float(table.votes[numbers].sum())
            sums = zip(state.sums, (loss, accuracy, 1.0), strict=True)
            state.sums = [total + value * size for total, value in sums]
            on_step(StepRecord(state.step, state.epoch, loss, accuracy, rate))
            advance(len(numbers))
            if state.position < state.batches and after():
                return None
        on_epoch(_end_of_epoch(state, logits))
        state.epoch, state.position, state.sums = state.epoch + 1, 0, [0.0, 0.0, 0.0]
        if after():
            return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.best[name])
    return assess(logits, state.held) if state.held else None


def _table(state: Fit, read: Callable[[int], None]) -> _Table:
    pairs = [state.model.rows(c.prompt, c.a, c.b) for c in state.learn]
    frozen = not any(name.startswith("encoder.") for name in state.model.learns())
    unseen = [*state.check, *state.held] if frozen else []
    others = [state.model.rows(c.prompt, c.a, c.b) for c in unseen]
    rows = sorted({row for pair in (*pairs, *others) for row in pair})
    number = {row: i for i, row in enumerate(rows)}
    device = state.model.last.weight.device
    return _Table(
        rows,
        number,
        torch.tensor([number[row] for row, _ in pairs]),
        torch.tensor([number[row] for _, row in pairs]),
        state.model.features(rows, read) if frozen else None,
        shares(state.learn).float().to(device),
        weights(state.learn).float().to(device),
    )


def _logits(model: PreferenceModel, table: _Table) -> Logits:
    """The model's z, reusing features that a frozen encoder has already computed."""
    known = table.features
    if known is None:
        return model

    @torch.no_grad()
    def logits(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        pairs = [model.rows(*each) for each in zip(prompts, a, b, strict=True)]
        rows = sorted({row for pair in pairs for row in pair})
        old = [row for row in rows if row in table.number]
        new = [row for row in rows if row not in table.number]  # from pairs that nobody compared
        features = known[[table.number[row] for row in old]]
        if new:
            features = torch.cat((features, model.features(new)))
        scores = model.scores(features)
        place = {row: i for i, row in enumerate((*old, *new))}
        first, second = (scores[[place[pair[side]] for pair in pairs]] for side in (0, 1))
        return model.compare(first, second).double().cpu()

    return logits


def _update(
    state: Fit, table: _Table, numbers: Tensor, parameters: Mapping[str, Tensor]
) -> tuple[float, float]:
    wanted, place = torch.cat((table.first[numbers], table.second[numbers])).unique(
        return_inverse=True
    )
    share, votes = table.share[numbers], table.votes[numbers]
    if table.features is not None:
        features = table.features[wanted]
    else:
        features = state.model.encoder([table.rows[i] for i in wanted.tolist()])
    scores = state.model.scores(features)[place.to(features.device)]
    z = state.model.compare(*scores.chunk(2))
    each = torch.nn.functional.binary_cross_entropy_with_logits(z, share, reduction="none")
    loss = (votes * each).sum() / votes.sum()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} at step {state.step + 1}; use a smaller learning_rate"
        )
    # an encoder's pooler is among its weights but affects no feature
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    state.optimizer.step({n: -g for n, g in zip(parameters, gradients, strict=True)})
    sides = (z.detach().sign() * (share - 0.5).sign() + 1) / 2
    return value, float((votes * sides).sum() / votes.sum())


def _end_of_epoch(state: Fit, logits: Logits) -> EpochRecord:
    """Keep the weights if they are the best so far, and return the epoch's record."""
    check = assess(logits, state.check).loss if state.check else math.nan
    if not state.check or check < state.best_loss:
        state.best_epoch = state.epoch
        state.best_loss = check if state.check else 0.0
        state.best = {name: p.detach().clone() for name, p in state.model.learns().items()}
    held = assess(logits, state.held) if state.held else None
    loss, accuracy = (total / state.sums[2] for total in state.sums[:2])
    return EpochRecord(
        step=state.step,
        epoch=state.epoch,
        loss=loss,
        accuracy=accuracy,
        check_loss=check,
        eval_loss=held.loss if held else math.nan,
        eval_accuracy=held.accuracy if held else math.nan,
        longer=held.longer if held else math.nan,
        ece=held.ece if held else math.nan,
        cyclic_triads=held.model_cycles.cyclic if held else math.nan,
        cyclic_energy=held.model_cycles.energy if held else math.nan,
    )


def bin_records(assessment: Assessment, step: int) -> list[BinRecord]:
    """The reliability table, one record per bin."""
    return [
        BinRecord(step, b.low, b.high, b.count, b.confidence, b.agreement) for b in assessment.bins
    ]
