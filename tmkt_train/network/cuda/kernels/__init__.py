"""Triton kernels of the training step, and how they are launched.

All of them walk memory the same way. Values lie as rows of channels, (T, S P, C): T time steps, and S streams of P
rows each. A block of lanes holds `FOLD` whole rows where C is small, else a part of one row. So a lane belongs to one
channel for as long as a program lives: what batch norm needs stays in registers for all T steps, sums need no exchange
between threads and no atomics, and neighboring lanes touch neighboring bytes. A program owns a range of row groups and
adds them up in order, so results do not depend on the schedule.

Bytes per neuron and step, with v bytes a value; spikes and their gradient take a quarter where they are pooled:
statistics read v; fire reads v and writes v; sums of the gradient read 2 v; the gradient reads 2 v and writes v.
"""
