"""Where exports come in. A receiver knows `ingest` and what it appends to, and nothing behind that."""
