"""``python -m marketagent``: the same as ``ma``."""

from marketagent.cli import main

main()
