"""CIFAR-10 by convolutional networks with separate feedback kernels; see `__main__`."""
