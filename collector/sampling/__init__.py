"""Which traces are forwarded, decided ahead of delivery."""
