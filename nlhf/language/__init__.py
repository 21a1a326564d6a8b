"""Nash learning for causal language models."""
