"""The filtered proxy in front of MLflow: classify -> decide -> stream.

    request
       |  guard.py      is the Host ours, does the page that sends this belong here      -> 403
       |  target.py     one reading of the path, or none: ambiguous forms are refused    -> 400
       |  catalog.py    (method, path) -> resource and action, MLflow's routes as data   -> unknown
       |  policy.py     resource and action -> allowed, or why not                       -> 403
       |  headers.py    what of the headers goes up, what comes back
       v  stream.py     body up, head, body down, in constant memory
    MLflow

What was matched is exactly what is sent. A route that the catalog doesn't know is denied, so a newer MLflow
opens no hole. Denials come in MLflow's own error JSON; they are 400, 403 or 404, never 5xx, because MLflow's
client repeats a 5xx for minutes. This package knows nothing of the collector.
"""

from proxy.asgi import Observation, open_proxy
from proxy.guard import check_host, check_origin
from proxy.stream import Upstream

__all__ = ["Observation", "Upstream", "check_host", "check_origin", "open_proxy"]
