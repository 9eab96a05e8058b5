"""The index in DuckDB: a side process that owns the file, and the client that the service asks it through."""
