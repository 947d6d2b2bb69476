"""Probes: quality and calibration, on data as it is."""
