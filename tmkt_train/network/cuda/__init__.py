"""Fused stages for a GPU, in Triton. Only `network.execution` imports them, through `door`."""
