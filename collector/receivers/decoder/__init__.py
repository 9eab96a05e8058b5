"""Where bodies are read: the small and plain ones on the event loop, all others in a process of their own.

    place.py      which body is read where
    client.py     the service's side of the process: started when it is first needed, one body at a time
    frames.py     what goes over the socket between the two
    process.py    the process itself, with a bound on its memory and its time

A thread would not do: protobuf's and JSON's decoders hold the interpreter's lock from the first byte to the
last, and what they build has no bound.
"""
