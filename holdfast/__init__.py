"""Holdfast: the science of resilient models, without an orchestrator."""
