"""The command line `tmkt-data`: parse, call, print. click and rich are imported here only."""
