"""Drills: rehearsed incidents on a timeline, and what the resilience curve says of the response."""
