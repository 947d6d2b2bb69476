"""Corruptions of images, at severities 1 to 5."""
