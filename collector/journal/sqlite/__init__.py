"""The journal on SQLite: schema, statements, recovery, and the thread that owns the connection."""
