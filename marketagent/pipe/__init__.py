"""Sealed streams: one module writes them, one reads them."""
