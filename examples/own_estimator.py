"""Check your own estimator: python examples/own_estimator.py [UNITS]."""

import sys
from dataclasses import dataclass

import torch

from bioplaus import AsymEP, LeakyField, check_gradients


@dataclass(frozen=True)
class Signs(AsymEP):  # the sign of the exact update
    name = "signs"

    def adjust(self, updates, batch, accepted):
        for update in updates.values():
            update.sign_()


units = int(sys.argv[1]) if sys.argv[1:] else 100
net = LeakyField([20, units, 10], "tanh", feedback_gain=0.5)
x, y = torch.rand(8, 20), torch.randint(10, (8,))
print(check_gradients(net, x, y, estimators=[Signs, "asym-ep", "vector-field"]))
