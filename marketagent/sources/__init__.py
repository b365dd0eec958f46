"""Where prices come from; a source is a file, found by name."""
