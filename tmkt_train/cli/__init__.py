"""The command line `tmkt-train`: parse, call, print. click and rich are imported here only."""
