"""Simulate an event camera that looks at a moving image."""
