"""Certificates: lower bounds that no attack can pass."""
