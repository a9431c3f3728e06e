"""Recipes: their schema, how they are loaded, and what is wrong with them."""

from tmkt_train.errors import require_train_packages

require_train_packages()
