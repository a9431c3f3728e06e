"""The HTML report of one or several runs."""

from tmkt_train.errors import require_train_packages

require_train_packages()
