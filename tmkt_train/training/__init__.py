"""One training run, from recipe to result, and the folder it writes."""

from tmkt_train.errors import require_train_packages

require_train_packages()
