"""Rank your own votes: python examples/own_votes.py [FILE [RESAMPLES]]."""

import sys

from nlhf import exploitability, load_preferences, rank, solve_equilibrium

file = sys.argv[1] if sys.argv[1:] else "sound-quality"
print(rank(file, bootstrap=int(sys.argv[2]) if sys.argv[2:] else 1000))  # what the votes decide
game = load_preferences(file)
uniform = game.P.new_zeros(len(game.actions)).log_softmax(0)
policy = solve_equilibrium(game.P, uniform, tau=0.1)  # no item is preferred to it
for context, p in zip(game.contexts, policy.exp().tolist(), strict=True):
    print(context, {name: round(each, 3) for name, each in zip(game.actions, p, strict=True)})
print(exploitability(game.P, policy, uniform, tau=0.1))
