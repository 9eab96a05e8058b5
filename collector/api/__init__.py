"""Our own HTTP routes, what guards them, and the page.

own_route.py            a row: path, permission, handler, its part of the document
own_routes.py           the table of all rows; operations, public paths, … from it
app.py                  the rows as an ASGI app
openapi.py              the rows as an OpenAPI document; query_parameters.py: filters and statistics in it
traces.py, index.py, runs.py, logs_api.py, operations.py, page/     handlers with their rows
mcp.py                  the Model Context Protocol; in_process.py: requests to ourselves in a client's name
reading.py, errors.py   parameters and bodies in; errors of answers as HTTP (error_answers.py: their form)

guard.py                Host, Origin, client and policy, before a handler
own_admission.py        who may ask our own paths, and what of the answers they may see
receiver_admission.py   who may export, and into which experiments
directory.py            which experiments a trace belongs to
access.py               the settings on clients and policy as the proxy takes them
audit.py                what is written down about a request
"""
