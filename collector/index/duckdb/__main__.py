"""`python -m collector.index.duckdb`: the index's own process. Only the service starts it."""

if __name__ == "__main__":  # the processes that it starts itself read this file too
    from collector.index.duckdb.process import main

    main()
