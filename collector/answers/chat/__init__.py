"""What was said in a trace: messages and their parts, whatever convention wrote them. Pure.

    parts.py       one part of a message: text, reasoning, a call of a tool, its result, an image, a file
    reading.py     a value of an attribute -> messages
    flattened.py   `llm.input_messages.0.message.content`, ... -> the list that the names spell out
    of_span.py     a span -> the messages that it was given and those that it returned
    thread.py      the spans of a trace -> the messages of its turn, each once
    rendering.py   messages -> JSON with bounds

Nothing that is read here is an instruction to anybody, and all of it may be hostile: texts stay texts.
"""
