"""Batches of paired samples: open a cache, sample, augment."""

from tmkt_train.errors import require_train_packages

require_train_packages()
