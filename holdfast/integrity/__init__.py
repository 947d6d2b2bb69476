"""Integrity: what data must be before it trains."""
