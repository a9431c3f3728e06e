"""Pictures of caches and recordings."""
