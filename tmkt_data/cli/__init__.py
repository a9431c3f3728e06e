"""Command line `tmkt-data`: parse, call, print. Only this package imports click and rich."""
