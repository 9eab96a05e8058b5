"""The values that travel between packages, and the errors, sorted by what the caller must do."""
