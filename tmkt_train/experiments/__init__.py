"""Several runs: comparisons, sweeps, few-shot evaluation."""
