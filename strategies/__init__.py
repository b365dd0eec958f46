"""One idea a file; found by name."""
