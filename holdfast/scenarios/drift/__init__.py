"""Shift: a world that moved."""
