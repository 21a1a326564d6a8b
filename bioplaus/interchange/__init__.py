"""Networks in NIR, the interchange format of spiking and leaky networks."""

from bioplaus.interchange.conversion import from_nir, in_steps, to_nir
from bioplaus.interchange.graphs import (
    UNREADABLE,
    UNSAID,
    load_nir,
    metadata,
    read_nir,
    seconds,
    write_nir,
)

__all__ = [
    "UNREADABLE",
    "UNSAID",
    "from_nir",
    "in_steps",
    "load_nir",
    "metadata",
    "read_nir",
    "seconds",
    "to_nir",
    "write_nir",
]
