"""What agents may ask over the Model Context Protocol: tools, resources and prompts.

A tool is a question to our own routes (asking.py), asked in the name of the client: over HTTP within the
process, for `sidespan mcp` over the network. So its rights, its errors and its figures are those of the API,
and nothing here can see more than the client can.

tools.py        the table of tools; inputs.py and schemas.py: what they take and give
  lists.py        traces, sessions, runs, errors, statistics, comparison, facets
  single.py       one trace, one session, one run, an explanation, the service's health
  feedback.py     the one tool that writes, off by default
resources.py    traces and runs by their address
prompts.py      two questions that people ask again and again
bounds.py       an answer within its bound, and what was left out                        pure
  fitting.py      the same in a thread, where it takes long
envelope.py     what comes from traces, apart from what Sidespan says                    pure
server.py       all of it as a server of the SDK; http.py: that server over HTTP

Only server.py, resources.py, prompts.py and http.py import the SDK (the extra `mcp`), and nobody imports them
before they are used.

Source: https://modelcontextprotocol.io/specification/2026-07-28
"""
