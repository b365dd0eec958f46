"""The compiled simulation: target weights traded row by row, and what comes of it measured.

It does what ``simulate`` does, in its words and its order of operations, one session and one symbol at a time, and
measures as ``metrics`` does; tests hold them equal, the equity to the bit. Its parts: ``terms`` (what it is told),
``days`` (what happens to a holder without an order), ``fills`` (orders and what they cost), ``walk`` (row after row)
and ``measure``.
"""
