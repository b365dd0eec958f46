"""Live streams: from a vendor's WebSocket to stored bars and printed lines.

    events       what a stream tells: bars, trades, quotes, and the words of the connection itself
    polygon      Polygon's frames as events, and the frames to send: no socket
    alpaca       the same for Alpaca
    connection   the loop: connect, log in, subscribe, listen, and the same again after a back-off
    watch        whether a connection that still answers has gone mute
    bus          events to handlers, by priority, within bounds
    keeper       each bar stored once, and out once and in order
    order        which of the stored bars of a symbol may go out now
    gaps         minutes that were missed, over REST
    printer      lines to a reader that may be slow
    run          all of it together, for ``ma stream``

websockets, aiohttp and DuckDB are imported by `connection`, `gaps` and `run` only.
"""
