"""Observers of the engine's events: metrics, logs, health, progress."""
