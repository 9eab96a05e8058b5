"""MLflow's REST API as far as we use it: every path once, each as a method.

    answers are returned whatever their status; only "no answer" is an error (MlflowUnreachable)

Source: https://mlflow.org/docs/latest/api_reference/rest-api.html; the messages are in
https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collector.mlflow.client import MAX_ANSWER_BYTES, MlflowAnswer
from collector.mlflow.headers import EXPERIMENT_ID, WORKSPACE

V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
DELETE_TRACES = f"{V3}/traces/delete-traces"
START_TRACE = f"{V3}/traces"
CREATE_EXPERIMENT = f"{V2}/experiments/create"
EXPERIMENT_BY_NAME = f"{V2}/experiments/get-by-name"
TRACES_ENDPOINT = "/v1/traces"
# the beginning of paths at which something of one trace is written
TRACE_WRITES = f"{V3}/traces/(tr-[0-9a-f]+)/"
# MLflow's own bounds on one page
MAX_HISTORY_POINTS = 25_000
MAX_TRACES = 500

Params = Mapping[str, str] | Sequence[tuple[str, str]]


def assessments_path(trace_id: str) -> str:
    """Where assessments of a trace (32 hex digits) are created."""
    return f"{V3}/traces/tr-{trace_id}/assessments"


class Connection(Protocol):
    """How requests get to MLflow; `Mlflow` is one. Each raises MlflowUnreachable."""

    async def get(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        """GET `path`."""

    async def post(
        self, path: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> MlflowAnswer:
        """POST `body` as it is."""

    async def post_json(
        self,
        path: str,
        document: Any,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        """POST `document` as JSON."""


# what traces/metrics counts, by its view: the metric, and which of them
COUNTED: Mapping[str, tuple[str, Sequence[str]]] = {
    "TRACES": ("trace_count", ()),
    "SPANS": ("span_count", ()),
    "ASSESSMENTS": ("assessment_count", ("assessment.type = 'feedback'",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowApi:
    """The API over one connection. `timeout_seconds` None: the connection's own bound.

    `max_bytes` of an answer are read; one that is longer says so (MlflowAnswer.is_cut).
    """

    connection: Connection
    workspace: str | None = None
    timeout_seconds: float | None = None
    max_bytes: int = MAX_ANSWER_BYTES

    async def version(self) -> MlflowAnswer:
        """GET /version: the server's version as text."""
        return await self._get("/version", None)

    async def export(self, body: bytes, headers: Mapping[str, str]) -> MlflowAnswer:
        """POST /v1/traces: an ExportTraceServiceRequest in the encoding that `headers` name."""
        return await self.connection.post(TRACES_ENDPOINT, body=body, headers=headers, **self._timeout())

    async def export_nothing(self) -> MlflowAnswer:
        """POST /v1/traces without spans: changes nothing, and shows whether the endpoint is there."""
        headers = {"content-type": "application/x-protobuf", EXPERIMENT_ID: "0"}
        return await self.export(b"", headers)

    async def experiment(self, experiment_id: str) -> MlflowAnswer:
        """GET experiments/get."""
        return await self._get(f"{V2}/experiments/get", {"experiment_id": experiment_id})

    async def experiment_named(self, name: str) -> MlflowAnswer:
        """GET experiments/get-by-name."""
        return await self._get(EXPERIMENT_BY_NAME, {"experiment_name": name})

    async def create_experiment(self, name: str) -> MlflowAnswer:
        """POST experiments/create."""
        return await self._post(CREATE_EXPERIMENT, {"name": name})

    async def search_experiments(self, *, limit: int, page_token: str = "") -> MlflowAnswer:
        """POST experiments/search: a page, newest first."""
        return await self._post_page(f"{V2}/experiments/search", {"max_results": limit}, page_token)

    async def run(self, run_id: str) -> MlflowAnswer:
        """GET runs/get."""
        return await self._get(f"{V2}/runs/get", {"run_id": run_id})

    async def search_runs(
        self,
        experiment_ids: Sequence[str],
        *,
        filter_string: str,
        order_by: Sequence[str],
        limit: int,
        page_token: str = "",
    ) -> MlflowAnswer:
        """POST runs/search: a page."""
        document = {
            "experiment_ids": list(experiment_ids),
            "filter": filter_string,
            "order_by": list(order_by),
            "max_results": limit,
        }
        return await self._post_page(f"{V2}/runs/search", document, page_token)

    async def metric_history(self, run_id: str, metric_key: str, *, page_token: str = "") -> MlflowAnswer:
        """GET metrics/get-history: a page of MAX_HISTORY_POINTS points."""
        query = {"run_id": run_id, "metric_key": metric_key, "max_results": str(MAX_HISTORY_POINTS)}
        return await self._get(
            f"{V2}/metrics/get-history", query | ({"page_token": page_token} if page_token else {})
        )

    async def artifacts(self, run_id: str, folder: str = "") -> MlflowAnswer:
        """GET artifacts/list: the files and folders in one folder of a run."""
        query = {"run_id": run_id} | ({"path": folder} if folder else {})
        return await self._get(f"{V2}/artifacts/list", query)

    async def trace(self, trace_id: str) -> MlflowAnswer:
        """GET traces/get: one trace by its 32 hex digits, with the spans that are there by now.

        Without allow_partial MLflow waits 3 s for spans that are missing, and then answers nothing.
        """
        query = {"trace_id": f"tr-{trace_id}", "allow_partial": "true"}
        return await self._get(f"{V3}/traces/get", query)

    async def traces(self, trace_ids: Sequence[str]) -> MlflowAnswer:
        """GET traces/batchGet: traces with their spans, by MLflow's ids (tr-...)."""
        return await self._get(f"{V3}/traces/batchGet", [("trace_ids", id) for id in trace_ids])

    async def trace_infos(self, trace_ids: Sequence[str]) -> MlflowAnswer:
        """POST traces/batchGetInfos: traces without spans, by MLflow's ids (tr-...)."""
        return await self._post(f"{V3}/traces/batchGetInfos", {"trace_ids": list(trace_ids)})

    async def create_assessment(self, trace_id: str, document: Mapping[str, Any]) -> MlflowAnswer:
        """POST traces/{trace_id}/assessments: one more assessment of a trace (32 hex digits).

        MLflow takes it as often as it is sent.
        """
        return await self._post(assessments_path(trace_id), document)

    async def start_trace(self, info: Mapping[str, Any]) -> MlflowAnswer:
        """POST traces: what MLflow is to say of a trace, which may have spans already.

        Tags, metadata and assessments that it has and `info` has not stay.
        """
        return await self._post(START_TRACE, {"trace": {"trace_info": info}})

    async def delete_traces(self, experiment_id: str, trace_ids: Sequence[str]) -> MlflowAnswer:
        """POST traces/delete-traces: by MLflow's ids (tr-...), those of one experiment."""
        document = {"experiment_id": experiment_id, "request_ids": list(trace_ids)}
        return await self._post(DELETE_TRACES, document)

    async def search_datasets(self, *, limit: int, page_token: str = "") -> MlflowAnswer:
        """POST datasets/search: a page of the evaluation datasets of all experiments, without records."""
        return await self._post_page(f"{V3}/datasets/search", {"max_results": limit}, page_token)

    async def dataset_records(self, dataset_id: str, *, limit: int, page_token: str = "") -> MlflowAnswer:
        """GET datasets/{dataset_id}/records: a page; `records` is JSON in a text."""
        query = {"max_results": str(limit)} | ({"page_token": page_token} if page_token else {})
        return await self._get(f"{V3}/datasets/{dataset_id}/records", query)

    async def search_traces(
        self,
        experiment_id: str,
        *,
        filter_string: str,
        order_by: Sequence[str] = (),
        limit: int = MAX_TRACES,
        page_token: str = "",
    ) -> MlflowAnswer:
        """POST traces/search: a page of one experiment's traces, without spans."""
        document = {
            "locations": [
                {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
            ],
            "filter": filter_string,
            "max_results": limit,
        } | ({"order_by": list(order_by)} if order_by else {})
        return await self._post_page(f"{V3}/traces/search", document, page_token)

    async def search_page(self, document: Mapping[str, Any]) -> MlflowAnswer:
        """POST traces/search: any question, as MLflow's SearchTracesV3 in JSON."""
        return await self._post(f"{V3}/traces/search", document)

    async def search_page_v2(self, query: Mapping[str, Any]) -> MlflowAnswer:
        """GET traces: the older form, as MLflow's SearchTraces; a list is a parameter for each item."""
        listed = ((name, each if isinstance(each, list) else [each]) for name, each in query.items())
        return await self._get(f"{V2}/traces", [(name, str(item)) for name, each in listed for item in each])

    async def traces_of_run(
        self,
        experiment_ids: Sequence[str],
        run_id: str,
        *,
        also: str | None = None,
        page_token: str = "",
    ) -> MlflowAnswer:
        """POST traces/search: a page of the traces of these experiments that are linked to a run.

        `also`: only those that this filter matches too.
        """
        document = {
            "locations": [
                {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}}
                for id in experiment_ids
            ],
            "filter": f"attributes.run_id = '{run_id}'" + (f" AND {also}" if also else ""),
            "max_results": MAX_TRACES,
        }
        return await self._post_page(f"{V3}/traces/search", document, page_token)

    async def count_traces(
        self, experiment_id: str, *, of: str, start_ms: int, end_ms: int, only: Sequence[str] = ()
    ) -> MlflowAnswer:
        """POST traces/metrics: how many TRACES, SPANS or ASSESSMENTS an experiment has in a window of time.

        Of assessments those that are feedback. `only` are conditions that all hold (`trace.status = 'OK'`).
        """
        counted, filters = COUNTED[of]
        document = {
            "experiment_ids": [experiment_id],
            "view_type": of,
            "metric_name": counted,
            "filters": [*filters, *only],
            "aggregations": [{"aggregation_type": "COUNT"}],
            "start_time_ms": start_ms,
            "end_time_ms": end_ms,
            "max_results": 1,
        }
        return await self.trace_metrics(document)

    async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
        """POST traces/metrics: any question, as MLflow's QueryTraceMetrics in JSON."""
        return await self._post(f"{V3}/traces/metrics", document)

    async def _get(self, path: str, params: Params | None) -> MlflowAnswer:
        return await self.connection.get(path, params=params, **self._options())

    async def _post(self, path: str, document: Mapping[str, Any]) -> MlflowAnswer:
        return await self.connection.post_json(path, document, **self._options())

    async def _post_page(self, path: str, document: Mapping[str, Any], page_token: str) -> MlflowAnswer:
        return await self._post(path, {**document} | ({"page_token": page_token} if page_token else {}))

    def _options(self) -> dict[str, Any]:
        workspace = {"headers": {WORKSPACE: self.workspace}} if self.workspace else {}
        return {"max_bytes": self.max_bytes} | workspace | self._timeout()

    def _timeout(self) -> dict[str, Any]:
        return {} if self.timeout_seconds is None else {"timeout_seconds": self.timeout_seconds}
