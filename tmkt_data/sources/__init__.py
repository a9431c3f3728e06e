"""Locate, download, unpack and check datasets."""
