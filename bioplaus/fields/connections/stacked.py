"""Dense connections of many networks at once, each with its own weight."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bioplaus.fields.connections.base import Wire


class Rows:
    """The member of each row of a batch, if the rows do not cycle through all members.

    Attributes:
        members: the member of each row, [B].
        parts: for each member that has rows, its index and the position of its rows in `order`.
        order: the rows sorted by member; None if they are sorted already.
    """

    def __init__(self, members: Tensor, count: int) -> None:
        """Sort the rows by member.

        Args:
            members: the member of each row, [B].
            count: number of members.
        """
        self.members = members
        self.parts: list[tuple[int, slice]] = []
        start = 0
        for member, many in enumerate(torch.bincount(members, minlength=count).tolist()):
            if many:
                self.parts.append((member, slice(start, start + many)))
            start += many
        in_order = bool((members[1:] >= members[:-1]).all())
        self.order = None if in_order else members.argsort(stable=True)


@dataclass(eq=False)
class StackedWire(Wire):
    """The wires of M dense connections, with the weight [M, n_target, n_source].

    Row i of a batch belongs to member i modulo M, so that all rows of a member are one matrix of
    a batched product. If rows have been removed, `rows` gives the member of each.
    """

    rows: Rows | None = None

    @property
    def members(self) -> int:
        """The number of networks, M."""
        return len(self.weight)

    def formula(self, weight: Tensor, r: Tensor) -> Tensor:
        return self._times(None, r, weight.mT, None)

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        return self._times(base, r, self.weight.mT, out)

    def back(self, v: Tensor) -> Tensor:
        return self._times(None, v, self.weight, None)

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        return self._times(base, v, self.weight, out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        return torch.bmm(by_member(post, self.members).mT, by_member(r, self.members))

    def update_into(self, out: Tensor, r: Tensor, post: Tensor) -> None:
        torch.bmm(by_member(post, self.members).mT, by_member(r, self.members), out=out)

    def of_rows(self, rows: Rows | None) -> StackedWire:
        """The same wire for other rows."""
        return replace(self, rows=rows)

    def _times(self, base: Tensor | None, r: Tensor, weights: Tensor, out: Tensor | None) -> Tensor:
        """base + r W for each row, with its member's W from `weights` [M, n_in, n_out]."""
        if out is None:
            out = r.new_empty(len(r), weights.shape[2])
        if self.rows is not None:
            return _in_parts(base, r, weights, out, self.rows)
        there, own = by_member(out, len(weights)), by_member(r, len(weights))
        if base is None:
            torch.bmm(own, weights, out=there)
        else:
            torch.baddbmm(by_member(base, len(weights)), own, weights, out=there)
        return out


def by_member(t: Tensor, members: int) -> Tensor:
    """View rows [B M, n] that cycle through all members as one matrix per member, [M, B, n]."""
    return t.view(-1, members, t.shape[1]).transpose(0, 1)


def _in_parts(base: Tensor | None, r: Tensor, weights: Tensor, out: Tensor, rows: Rows) -> Tensor:
    """Compute one product per member that has rows."""
    order, there = rows.order, out
    if order is not None:
        r, base = r[order], None if base is None else base[order]
        there = torch.empty_like(out)
    for member, here in rows.parts:
        if base is None:
            torch.mm(r[here], weights[member], out=there[here])
        else:
            torch.addmm(base[here], r[here], weights[member], out=there[here])
    if order is not None:
        out[order] = there
    return out
