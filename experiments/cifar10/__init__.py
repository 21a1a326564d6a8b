"""CIFAR-10 by convolutional networks with feedback kernels of their own; see `__main__`."""
