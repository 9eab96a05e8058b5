"""The process of the service.

app.py           the composition root: what there is, in order, for the roles of this process; parts.py
server.py        signals, start and end; leaving.py: the end of connections
listening.py     the listening sockets, also a supervisor's; takeover.py: handing them to a new process
protocol.py      HTTP/1.1 within bounds
dispatch.py      which part a request is for; rooted.py: the path under which the service is published
background.py    what runs beside the requests
mlflow_proxy.py  the proxy package, with this service's settings and metrics
embedded.py      the MLflow server of `sidespan up`
"""
