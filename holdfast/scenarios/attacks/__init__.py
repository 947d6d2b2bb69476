"""Evasion: hostile inputs within a threat."""
