"""One web client for all providers: what may be called, how an answer is read, and what a failure means.

    vendor      a provider as data: base URL, headers with the key, limits, size and time
    client      the client: limiter, breaker, tries, deadline; and `gather` for many calls at once
    exchange    one request and its answer on the wire
    body        the bytes of an answer: size, length, gzip to its end
    strict      the bytes as JSON, or an error
    meaning     what a status, a header or a broken connection means
    failures    the errors that come of it
    paging      from one page to the next

aiohttp, anyio and tenacity are imported by `client` and `exchange` only: who reads a `Vendor` does not pay for them.
"""
