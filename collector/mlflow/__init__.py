"""MLflow as a client sees it."""
