"""Spiking networks, built from stages."""

from tmkt_train.errors import require_train_packages

require_train_packages()
