"""Several runs: comparisons, sweeps, few-shot evaluation."""

from tmkt_train.errors import require_train_packages

require_train_packages()
