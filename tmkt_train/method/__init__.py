"""The training methods: time-step mixing, losses, objectives."""

from tmkt_train.errors import require_train_packages

require_train_packages()
