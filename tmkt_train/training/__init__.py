"""One training run, from recipe to result, and the folder it writes."""
