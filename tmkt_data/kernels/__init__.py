"""Compiled loops over plain arrays: numba lives here and nowhere else.

A kernel checks no bounds and allocates nothing; its caller has validated every index.
"""
