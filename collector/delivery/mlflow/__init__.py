"""Delivery to MLflow: a window's traces resolved, forwarded and sent, and what its answers mean."""
