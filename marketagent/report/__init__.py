"""A backtest for a person: one model of figures, tables and charts, of which a terminal shows a part and a page all.

Files, upwards: ``model`` says what there is to show, ``figures`` and the others fill it, ``html`` writes the page.
"""
