"""Filter patterns of event source mappings: parsed, compiled, explained."""
