"""Watchlists that come with the program. A list of the same name in ``config.toml`` hides one here.

An index changes: these are its members on one day, and a backtest over them is biased towards those who survived.
"""

# S&P 100 by the end of 2025: 100 companies, 101 symbols (Alphabet has two).
_SP100 = """
    AAPL ABBV ABT ACN ADBE AMAT AMD AMGN AMT AMZN AVGO AXP BA BAC BK BKNG BLK BMY BRK.B C CAT CL CMCSA COF COP COST CRM
    CSCO CVS CVX DE DHR DIS DUK EMR FDX GD GE GEV GILD GM GOOG GOOGL GS HD HON IBM INTC INTU ISRG JNJ JPM KO LIN LLY LMT
    LOW LRCX MA MCD MDLZ MDT META MMM MO MRK MS MSFT MU NEE NFLX NKE NOW NVDA ORCL PEP PFE PG PLTR PM QCOM RTX SBUX
    SCHW SO SPG T TMO TMUS TSLA TXN UBER UNH UNP UPS USB V VZ WFC WMT XOM
"""

BUILT_IN = {"sp100": tuple(_SP100.split())}
