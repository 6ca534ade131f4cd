"""Sinks that need no library of their own."""
