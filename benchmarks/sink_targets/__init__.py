"""Where the sinks of the benchmark write: each module has targets, with the loop that people would write by hand."""
