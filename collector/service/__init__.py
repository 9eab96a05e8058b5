"""The process: the composition root, the server, and what runs beside the requests."""
