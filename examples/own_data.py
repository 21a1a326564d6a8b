"""Train on your own data: python examples/own_data.py [EPOCHS]."""

import sys

import numpy as np

from bioplaus import Dataset, LeakyField, fit

epochs = int(sys.argv[1]) if sys.argv[1:] else 20
x = np.random.default_rng(0).uniform(0, 1, (1000, 2))  # replace by your arrays
y = ((x - 0.5) ** 2).sum(axis=1) < 0.16  # labels, class names, or target vectors
data = Dataset.from_arrays(x[:800], y[:800], x[800:], y[800:])
net = LeakyField([2, 64, 2], "hard-sigmoid", coordinates="clipped", gain=3, feedback_gain=0.1)
print(fit(net, data, estimator="asym-ep", epochs=epochs, learning_rate=0.01))
