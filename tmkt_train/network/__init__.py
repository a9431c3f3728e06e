"""Spiking networks, built from stages."""
