"""What OTLP says, as pure functions: bytes to messages, validation, errors to answers. No I/O."""
