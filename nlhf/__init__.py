"""Nash learning from human feedback."""
