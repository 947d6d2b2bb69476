"""Poisoning and backdoors: hostile training data."""
