"""Fit a preference model to votes; the whole state of the training in one object."""

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
    """Moves parameters along updates, estimates of minus the gradient."""

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        ...

    def step(self, updates: Mapping[str, Tensor]) -> None:
        """Move every parameter along its update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        ...


@dataclass(frozen=True)
class StepRecord:
    """One update: loss in nats a vote and accuracy on its own batch, before it."""

    step: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class EpochRecord:
    """One pass: means over the updates on the way, and the model on what was held out.

    `check_loss` is the loss that says which epoch is kept. Columns are NaN where no comparison is
    left for them. `longer` is the accuracy of "the answer with more letters wins".
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
    """A row of the table of reliability at the end: confidence against agreement."""

    step: int
    low: float
    high: float
    count: int
    confidence: float
    agreement: float


@dataclass
class Fit:
    """A training under way. What is not in `state` never changes.

    Attributes:
        model: learns in place.
        learn, check, held: comparisons to learn from, those by which the best epoch is chosen (the
            last one if there are none), and those by which it is judged.
        optimizer: of `model.learns()`.
        order: gives the order of `learn` in an epoch, the first is 1; the same whenever asked.
        epochs, batch_size: the extent.
        facts: what the comparisons are like.
        epoch, position, step: where it is: batches done in this epoch and updates in all.
        sums: loss, accuracy and votes over this epoch.
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
        """Updates in an epoch."""
        return math.ceil(len(self.learn) / self.batch_size)

    @property
    def seen(self) -> int:
        """Comparisons learned from so far, each as often as it was."""
        return (self.epoch - 1) * len(self.learn) + self.position * self.batch_size

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch > self.epochs

    def state(self) -> dict[str, Any]:
        """What a resumed training needs: {"tensors": by name, "numbers": JSON can say them}."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model/{name}": p.detach() for name, p in self.model.learns().items()}
        tensors |= {f"optimizer/{name}": t for name, t in optimizer["buffers"].items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        if not self.best:
            del numbers["best_loss"]  # infinite, which JSON cannot say
        return {"tensors": tensors, "numbers": {**numbers, "optimizer_steps": optimizer["steps"]}}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave.

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
    """The rows of all comparisons, each once, and their features where these never change.

    `first`, `second`, `share` and `votes` are of those to learn from.
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
    """Maximise the likelihood of the votes, by epochs over shuffled comparisons.

    loss = - sum_i votes_i (share_i log P_i + (1 - share_i) log(1 - P_i)) / sum_i votes_i

    Args:
        state: moves on; may stand anywhere in the training.
        on_step: given the record of every update.
        on_epoch: given the record of every epoch.
        after: called when an update is whole, at the end of an epoch after its record; True stops.
        advance: told the comparisons of each update.
        read: told the rows that a frozen encoder has read before the first update.

    Returns:
        The assessment of the best epoch, whose weights the model has now, on what was held out;
        None if that is nothing, or if `after` stopped it.

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
    """The model's z, without reading anew what a frozen encoder has read."""
    known = table.features
    if known is None:
        return model

    @torch.no_grad()
    def logits(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        pairs = [model.rows(*each) for each in zip(prompts, a, b, strict=True)]
        rows = sorted({row for pair in pairs for row in pair})
        old = [row for row in rows if row in table.number]
        new = [row for row in rows if row not in table.number]  # of pairs that nobody compared
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
    # an encoder's pooler is among its weights and in none of the features
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    state.optimizer.step({n: -g for n, g in zip(parameters, gradients, strict=True)})
    sides = (z.detach().sign() * (share - 0.5).sign() + 1) / 2
    return value, float((votes * sides).sum() / votes.sum())


def _end_of_epoch(state: Fit, logits: Logits) -> EpochRecord:
    """Keep the weights if they are the best so far, and say how it stands."""
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
    """The table of reliability, a record a bin."""
    return [
        BinRecord(step, b.low, b.high, b.count, b.confidence, b.agreement) for b in assessment.bins
    ]
