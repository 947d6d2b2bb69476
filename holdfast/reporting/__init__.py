"""Reporting: one page for each version, one file for each figure."""
