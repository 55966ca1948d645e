"""Honest measurement of a controller on held-out questions."""
