"""Event recordings: read, write, filter, bin, and accumulate into frames."""
