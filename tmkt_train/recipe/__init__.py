"""Recipes: their schema, how they are loaded, and what is wrong with them."""
