"""Resilience scenarios: the family's base measures, the subclass only proposes."""
