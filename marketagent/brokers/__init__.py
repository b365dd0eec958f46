"""Where orders go; a broker is a file."""
