"""The server scenarios of @modelcontextprotocol/conformance, against the running service."""
