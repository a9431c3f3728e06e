"""Simulate an event camera viewing a moving image."""
