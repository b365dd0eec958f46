"""DuckDB files behind the turnstile lock; all SQL on them is here."""
