"""Logs everything that MLflow can store, step by step, through Sidespan's port.

    python examples/log_everything.py                 # needs mlflow and scikit-learn, and Sidespan running
    SIDESPAN_ENDPOINT=https://mlflow.example.com MLFLOW_TRACKING_TOKEN=sidespan_… python …

Look at: the experiment "log everything" in MLflow (through Sidespan's port), with runs, params, metrics,
child runs, datasets, files, models and their versions, a prompt, traces with feedback, an evaluation dataset.
If the policy denies a step, the script prints the rule in one line and continues.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

ENDPOINT = os.environ.get("SIDESPAN_ENDPOINT", "http://127.0.0.1:4318")


@dataclass
class Tour:
    """What the steps have made so far; `name` is in all names, `big_bytes` the size of the large file."""

    name: str
    folder: Path
    big_bytes: int = 8 * 1024 * 1024
    experiment: str = ""
    run: str = ""
    spare_run: str = ""
    trace: str = ""
    spare_trace: str = ""
    dataset: str = ""
    model: str = ""
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient()

    @property
    def registered(self) -> str:
        return f"model of {self.name.replace('/', ' ')}"


Step = Callable[[Tour], Any]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    """A step of the tour; what it returns has no ids in it, so that two tours can be compared."""
    STEPS.append(function)
    return function


# experiments and runs


@step
def create_experiment(tour: Tour) -> Any:
    tour.experiment = tour.client.create_experiment(tour.name, tags={"team": "one"})
    return "created"


@step
def get_experiment(tour: Tour) -> Any:
    by_id = tour.client.get_experiment(tour.experiment)
    by_name = tour.client.get_experiment_by_name(tour.name)
    return by_id.name == by_name.name == tour.name and by_id.lifecycle_stage


@step
def tag_experiment(tour: Tour) -> Any:
    tour.client.set_experiment_tag(tour.experiment, "purpose", "tour")
    tour.client.set_experiment_tag(tour.experiment, "gone", "soon")
    return "tagged"


@step
def untag_experiment(tour: Tour) -> Any:
    tour.client.delete_experiment_tag(tour.experiment, "gone")
    return sorted(tour.client.get_experiment(tour.experiment).tags)


@step
def start_a_run(tour: Tour) -> Any:
    run = tour.client.create_run(tour.experiment, run_name="first", tags={"kind": "tour"})
    tour.run = run.info.run_id
    tour.spare_run = tour.client.create_run(tour.experiment, run_name="spare").info.run_id
    return run.info.status


@step
def log_params_metrics_and_tags(tour: Tour) -> Any:
    tour.client.log_param(tour.run, "learning_rate", 0.1)
    for number in range(5):
        tour.client.log_metric(tour.run, "loss", 1 / (number + 1), timestamp=1000 + number, step=number)
    tour.client.set_tag(tour.run, "colour", "green")
    return "logged"


@step
def untag_the_run(tour: Tour) -> Any:
    tour.client.delete_tag(tour.run, "kind")
    return "untagged"


@step
def log_a_batch(tour: Tour) -> Any:
    metrics = [Metric(f"m{n % 10}", float(n), 2000 + n, n) for n in range(1000)]
    params = [Param(f"p{n}", str(n)) for n in range(90)]
    tags = [RunTag(f"t{n}", "x" * 1000) for n in range(50)]
    tour.client.log_batch(tour.run, metrics=metrics)
    tour.client.log_batch(tour.run, params=params, tags=tags)
    return len(metrics) + len(params) + len(tags)


@step
def read_the_run_back(tour: Tour) -> Any:
    data = tour.client.get_run(tour.run).data
    return sorted(data.params), sorted(data.metrics.items()), data.tags.get("colour")


@step
def read_a_metrics_history(tour: Tour) -> Any:
    return [(point.step, point.value) for point in tour.client.get_metric_history(tour.run, "loss")]


@step
def children_of_a_run(tour: Tour) -> Any:
    with mlflow.start_run(run_id=tour.run):
        for number in range(2):
            with mlflow.start_run(run_name=f"child {number}", nested=True, experiment_id=tour.experiment):
                mlflow.log_metric("score", number)
    return "two children"


@step
def runs_in_parallel(tour: Tour) -> Any:
    failed: list[Exception] = []

    def one(number: int) -> None:
        try:
            client = MlflowClient()
            run = client.create_run(tour.experiment, run_name=f"parallel {number}").info.run_id
            for step_number in range(10):
                client.log_metric(run, "value", number * step_number, step=step_number)
            client.set_terminated(run)
        except MlflowException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return "four runs"


@step
def search_runs(tour: Tour) -> Any:
    found = tour.client.search_runs(
        [tour.experiment], filter_string="metrics.value >= 0", order_by=["attributes.run_name ASC"]
    )
    return [run.info.run_name for run in found]


@step
def search_experiments(tour: Tour) -> Any:
    return [each.name for each in tour.client.search_experiments(filter_string=f"name = '{tour.name}'")]


@step
def a_dataset_of_a_run(tour: Tour) -> Any:
    import pandas

    frame = pandas.DataFrame({"question": ["2 + 2", "3 + 4"], "answer": [4, 7]})
    with mlflow.start_run(run_id=tour.run):
        mlflow.log_input(mlflow.data.from_pandas(frame, name="sums"), context="training")
    return [each.dataset.name for each in tour.client.get_run(tour.run).inputs.dataset_inputs]


@step
def system_metrics(tour: Tour) -> Any:
    with mlflow.start_run(experiment_id=tour.experiment, run_name="system", log_system_metrics=True) as run:
        monitor = mlflow.active_run()
        time.sleep(0.1)
    assert monitor is not None
    return tour.client.get_run(run.info.run_id).info.status


# files


@step
def write_files(tour: Tour) -> Any:
    with mlflow.start_run(run_id=tour.run):
        mlflow.log_text("some text", "notes/a text.txt")
        mlflow.log_dict({"answer": 42}, "answer.json")
    file = tour.folder / "two words, ünïcode.bin"
    file.write_bytes(bytes(range(256)) * 100)
    tour.client.log_artifact(tour.run, str(file), "folder")
    return "written"


@step
def write_a_large_file(tour: Tour) -> Any:
    file = tour.folder / "large.bin"
    with file.open("wb") as out:
        for _ in range(tour.big_bytes // 1024 // 1024):
            out.write(os.urandom(1024) * 1024)
    tour.client.log_artifact(tour.run, str(file))
    return file.stat().st_size


@step
def list_files(tour: Tour) -> Any:
    return [
        (each.path, each.file_size)
        for folder in (None, "folder", "notes")
        for each in tour.client.list_artifacts(tour.run, folder)
    ]


@step
def read_files(tour: Tour) -> Any:
    folder = Path(tempfile.mkdtemp(dir=tour.folder))
    text = Path(tour.client.download_artifacts(tour.run, "notes/a text.txt", str(folder))).read_text()
    large = Path(tour.client.download_artifacts(tour.run, "large.bin", str(folder)))
    same = large.read_bytes() == (tour.folder / "large.bin").read_bytes()
    large.unlink()
    return text, same


# models


@step
def log_a_model(tour: Tour) -> Any:
    from sklearn.linear_model import LinearRegression

    with mlflow.start_run(run_id=tour.run):
        info = mlflow.sklearn.log_model(
            LinearRegression().fit([[0], [1]], [0, 1]), name="linear", pip_requirements=["scikit-learn"]
        )
    tour.model = info.model_id
    return mlflow.get_logged_model(info.model_id).name


@step
def load_a_model(tour: Tour) -> Any:
    return round(float(mlflow.sklearn.load_model(f"models:/{tour.model}").predict([[2]])[0]), 6)


@step
def autolog(tour: Tour) -> Any:
    from sklearn.linear_model import LogisticRegression

    mlflow.sklearn.autolog(log_models=False, silent=True)
    try:
        with mlflow.start_run(experiment_id=tour.experiment, run_name="autolog") as run:
            LogisticRegression().fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    finally:
        mlflow.sklearn.autolog(disable=True)
    return "C" in tour.client.get_run(run.info.run_id).data.params


@step
def register_a_model(tour: Tour) -> Any:
    tour.client.create_registered_model(tour.registered, tags={"team": "one"})
    version = tour.client.create_model_version(
        tour.registered, f"models:/{tour.model}", run_id=tour.run, model_id=tour.model
    )
    tour.client.set_registered_model_alias(tour.registered, "champion", version.version)
    tour.client.set_model_version_tag(tour.registered, version.version, "checked", "yes")
    tour.client.update_model_version(tour.registered, version.version, "the first")
    return version.version


@step
def find_a_model(tour: Tour) -> Any:
    by_alias = tour.client.get_model_version_by_alias(tour.registered, "champion")
    found = tour.client.search_model_versions(f"name = '{tour.registered}'")
    return by_alias.description, [each.version for each in found]


@step
def a_prompt(tour: Tour) -> Any:
    name = f"prompt-of-{tour.name.replace(' ', '-').replace('/', '-')}"
    mlflow.genai.register_prompt(name=name, template="Answer {{question}} briefly.")
    return mlflow.genai.load_prompt(f"prompts:/{name}/1").template


# traces


@step
def trace_a_function(tour: Tour) -> Any:
    mlflow.set_experiment(experiment_id=tour.experiment)

    @mlflow.trace(name="answer", span_type="AGENT")
    def answer(question: str) -> str:
        with mlflow.start_span("look up", span_type="TOOL") as span:
            span.set_attributes({"source": "memory"})
        return f"{question}? 42."

    for _ in range(2):
        answer("what is six times seven")
        mlflow.flush_trace_async_logging()
        tour.spare_trace, tour.trace = tour.trace, mlflow.get_last_active_trace_id() or ""
    return "traced"


@step
def read_a_trace(tour: Tour) -> Any:
    trace = tour.client.get_trace(tour.trace)
    return sorted(span.name for span in trace.data.spans), trace.info.state


@step
def tag_a_trace(tour: Tour) -> Any:
    tour.client.set_trace_tag(tour.trace, "checked", "yes")
    return "tagged"


@step
def assess_a_trace(tour: Tour) -> Any:
    source = AssessmentSource(source_type="HUMAN", source_id="tour")
    given = mlflow.log_feedback(trace_id=tour.trace, name="right", value=True, source=source)
    tour.made["assessment"] = given.assessment_id
    mlflow.log_expectation(trace_id=tour.trace, name="answer", value="42", source=source)
    return given.name


@step
def search_traces(tour: Tour) -> Any:
    found = mlflow.search_traces(locations=[tour.experiment], return_type="list")
    return sorted(len(trace.data.spans) for trace in found)


@step
def an_evaluation_dataset(tour: Tour) -> Any:
    from mlflow.genai.datasets import create_dataset

    dataset = create_dataset(name=f"cases of {tour.name}", experiment_id=[tour.experiment])
    dataset.merge_records([{"inputs": {"question": "2 + 2"}, "expectations": {"answer": "4"}}])
    tour.dataset = dataset.dataset_id
    return dataset.name.startswith("cases")


@step
def find_an_evaluation_dataset(tour: Tour) -> Any:
    from mlflow.genai.datasets import get_dataset, search_datasets

    found = search_datasets(experiment_ids=[tour.experiment])
    return len(found), len(get_dataset(dataset_id=tour.dataset).to_df())


# what is taken away


@step
def delete_an_assessment(tour: Tour) -> Any:
    mlflow.delete_assessment(trace_id=tour.trace, assessment_id=tour.made["assessment"])
    return "deleted"


@step
def delete_a_trace(tour: Tour) -> Any:
    return tour.client.delete_traces(tour.experiment, trace_ids=[tour.spare_trace])


@step
def delete_an_evaluation_dataset(tour: Tour) -> Any:
    from mlflow.genai.datasets import delete_dataset

    delete_dataset(dataset_id=tour.dataset)
    return "deleted"


@step
def delete_a_model(tour: Tour) -> Any:
    tour.client.delete_registered_model_alias(tour.registered, "champion")
    tour.client.delete_model_version(tour.registered, "1")
    tour.client.delete_registered_model(tour.registered)
    return "deleted"


@step
def delete_and_restore_a_run(tour: Tour) -> Any:
    tour.client.delete_run(tour.spare_run)
    deleted = tour.client.get_run(tour.spare_run).info.lifecycle_stage
    tour.client.restore_run(tour.spare_run)
    return deleted, tour.client.get_run(tour.spare_run).info.lifecycle_stage


@step
def finish_the_run(tour: Tour) -> Any:
    tour.client.set_terminated(tour.run, "FINISHED")
    return "finished"


@step
def rename_experiment(tour: Tour) -> Any:
    tour.client.rename_experiment(tour.experiment, f"{tour.name}, done")
    return "renamed"


@step
def delete_and_restore_experiment(tour: Tour) -> Any:
    tour.client.delete_experiment(tour.experiment)
    tour.client.restore_experiment(tour.experiment)
    return "restored"


# what a policy keeps from most


@step
def an_experiment_with_files_elsewhere(tour: Tour) -> Any:
    tour.client.create_experiment(f"{tour.name}, elsewhere", artifact_location="mlflow-artifacts:/elsewhere")
    return "created"


@step
def see_the_webhooks(tour: Tour) -> Any:
    return len(tour.client.list_webhooks())


def main() -> None:
    mlflow.set_tracking_uri(ENDPOINT)
    name = f"log everything {time.strftime('%Y-%m-%d %H.%M.%S')}"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(name=name, folder=Path(folder))
        for each in STEPS:
            title = each.__name__.replace("_", " ")
            try:
                each(tour)
                print(f"ok      {title}")
            except Exception as error:
                failed += 1
                said = str(error).strip().splitlines()[0][:200]
                print(f"{'denied' if 'PERMISSION_DENIED' in str(error) else 'failed'}  {title}: {said}")
    print(f"{len(STEPS) - failed} of {len(STEPS)} steps; see experiment {tour.experiment} in {ENDPOINT}/")


if __name__ == "__main__":
    main()
