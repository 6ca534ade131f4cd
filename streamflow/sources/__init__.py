"""Streams to read from."""
