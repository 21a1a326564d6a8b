"""Vector fields mu(x, s; theta)."""

from bioplaus.fields.base import AbstractField
from bioplaus.fields.leaky import LeakyField

__all__ = ["AbstractField", "LeakyField"]
