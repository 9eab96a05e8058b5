"""The commands, what renders for a terminal, and the HTTP client that they use."""
