"""Compiled loops of the training step on a CPU, over plain arrays with the channels last.

A kernel checks no bounds and allocates nothing; its caller has validated every shape. Each takes a range of its
outermost loop, so that threads can share the work, and gives the same result however the range is split. Arrays are
all float32 or all float64. Inner loops touch few arrays at a time: beyond that the compiler does not vectorize.
"""
