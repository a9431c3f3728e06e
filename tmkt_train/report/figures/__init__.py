"""Figures of the pages: what they show, drawn by matplotlib."""
