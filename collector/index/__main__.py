"""`python -m collector.index`: the index's own process. The service starts it; it is of no use by itself."""

if __name__ == "__main__":  # the processes that it starts itself read this file too
    from collector.index.process import main

    main()
