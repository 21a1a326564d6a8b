"""What both engines share: configs, seeds, optimizers, progress and the run log."""
