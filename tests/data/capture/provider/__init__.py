"""A provider of models whose answers are known beforehand, so that what is traced of them can be judged.

script.py      what is answered to which question, and with which usage; knows no provider's form
openai.py      chat completions, responses and embeddings, streamed too
anthropic.py   messages, streamed too
gemini.py      generateContent and embedContent, streamed too
dspy.py        DSPy's fields, which stand in the text of a question and its answer
server.py      all of them on one port, beside a receiver that keeps what is exported over OTLP
"""
