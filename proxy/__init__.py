"""The filtered proxy in front of MLflow: who asks -> classify -> decide -> stream.

    request
       |  guard.py      is the Host ours, does the page that sends this belong here      -> 403
       |  target.py     one reading of the path, or none: ambiguous forms are refused    -> 400
       |  catalog.py    (method, path) -> resource, action, where ids travel: as data    -> unknown
       |  clients.py    token, JSON Web Token or an auth proxy's header -> client        -> 401
       |  gate.py       policy (policy.py, presets.py), experiment by experiment         -> 403, 404
       |     reading.py    one reading of query and body                                 -> 400
       |     lookup.py     which experiment an id belongs to, asked of MLflow
       |     narrow.py     lists cut down to what the client may see
       |     graphql.py    the fields of a GraphQL document
       |     widening.py   values that say where files lie
       |  whole.py      a body of another length than was declared                        -> 400
       |  questions.py  what may be answered in MLflow's place, and which writes it must hear of
       |  headers.py    what of the headers goes up, what comes back
       |  written.py    which traces a request has changed, for the index
       v  stream.py     body up, head, body down, in constant memory
    MLflow

What was matched is exactly what is sent. A route that the catalog doesn't know is denied, so a newer
MLflow opens no hole. Denials come in MLflow's own error JSON; they are 400, 401, 403 or 404, never 5xx,
because MLflow's client repeats a 5xx for minutes. This package knows nothing of the collector.
"""

from proxy.access import Access, AccessSettings, open_access
from proxy.asgi import Observation, ProxyOptions, open_proxy
from proxy.guard import check_host, check_origin
from proxy.questions import Answering
from proxy.stream import Upstream
from proxy.written import ChangedTraces, TellChanged

__all__ = [
    "Access",
    "AccessSettings",
    "Answering",
    "ChangedTraces",
    "Observation",
    "ProxyOptions",
    "TellChanged",
    "Upstream",
    "check_host",
    "check_origin",
    "open_access",
    "open_proxy",
]
