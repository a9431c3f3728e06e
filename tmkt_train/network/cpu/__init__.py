"""Kernels of the training step on a CPU."""
