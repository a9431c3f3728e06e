"""Build a cache: plan it, fill its blocks, finish the file."""
