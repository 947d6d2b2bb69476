"""Monitoring: windows of production rows, detectors that look at them, and a panel that keeps their alarms honest."""
