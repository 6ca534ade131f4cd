"""Sinks of AWS. Each is a variable of the module that has its name, and an entry point: nothing is imported here."""
