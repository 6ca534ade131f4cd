"""What a user calls a handler, turned into the one async shape the engine calls."""
