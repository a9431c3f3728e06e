"""Compiled loops of the training step on a CPU, over plain arrays with the channels last.

A kernel checks no bounds and allocates nothing; whoever calls it has validated every shape. Each takes the range of its
outermost loop, so that several threads can share the work, and gives the same digits however the range is cut. Arrays
are all float32 or all float64. Inner loops touch few arrays at a time: beyond that the compiler does not vectorize.
"""
