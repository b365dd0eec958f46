"""One subcommand a file; ``cli`` finds them by name."""
