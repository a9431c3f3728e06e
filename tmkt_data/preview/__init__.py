"""Draw caches and recordings."""
