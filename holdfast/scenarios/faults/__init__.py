"""Faults of hardware and memory."""
