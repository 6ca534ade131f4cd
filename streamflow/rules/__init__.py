"""Pure decisions: facts in, actions out; no I/O, no await, no clock."""
