"""MLflow: a run of an experiment, in a local file unless a server is named."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..errors import ConfigError
from ..volumes.extras import require_extra
from .registry import TRACKERS
from .tracker import Start, Tracker, in_one_line

STORE, ARTIFACTS = "mlflow.db", "mlflow"
#: what of the training folder is kept with the run; weights stay where they are
KEPT = ("transfer.json", "report.json", "best/model.json", "best/README.md")
LONGEST, MOST = 500, 100  # characters of a parameter, parameters in one request: limits of every version of MLflow
_FOREIGN = re.compile(r"[^/\w.\- :]")
_NOISY = ("mlflow", "alembic")
_MEMORY = "mlflow_run"
_OWN_PLACE = "Correct tracking_uri or MLFLOW_TRACKING_URI, or leave both away for a local file"


class MLflow(Tracker):
    """Writes one run of MLflow; a training that is resumed goes on in it.

    Nothing is sent anywhere unless ``tracking_uri``, or the variable ``MLFLOW_TRACKING_URI``, names a server. Without
    them the runs of all training folders in one place share ``mlflow.db`` beside these folders.

    Args:
        work_dir: The training folder.
        experiment: Name of the experiment, which is made if it is not there.
        run: Name of the run; that of the training folder by default.
        tracking_uri: Where MLflow's runs are, such as ``sqlite:///runs.db`` or ``http://localhost:5000``.
        tags: Further words on the run, by name.

    Raises:
        ConfigError: an argument of another kind.
    """

    def __init__(
        self,
        work_dir: str | Path,
        /,
        experiment: str = "medtransfer",
        run: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(work_dir)
        words = {"experiment": experiment, "run": run or self.work_dir.name, "tracking_uri": tracking_uri or "-"}
        for name, value in words.items():
            if not (isinstance(value, str) and value):
                raise ConfigError(f"trackers: {name} of mlflow must be a text, got {value!r}")
        if not isinstance(tags or {}, Mapping):
            raise ConfigError(f"trackers: tags of mlflow must be a dict, got {tags!r}")
        self.name, self.run, self.tags = experiment, words["run"], dict(tags or {})
        stated = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self.is_own = not stated
        self.uri = stated or f"sqlite:///{self.work_dir.parent / STORE}"

    def connect(self) -> None:
        """See that the library is there and, if a server is named, that it answers.

        Raises:
            MissingExtraError: it is not installed.
            ConfigError: the server does not answer.
        """
        needed = ("mlflow", "sqlalchemy", "alembic") if self.uri.startswith("sqlite:") else ("mlflow",)
        for module in needed:
            require_extra(module, "mlflow", "trackers=['mlflow']")
        _keep_quiet()
        if urlsplit(self.uri).scheme in ("http", "https"):
            with self._told():
                _client(self.uri).get_experiment_by_name(self.name)

    def open(self, start: Start) -> str:
        """Begin a run, or go on with that of the checkpoint.

        Raises:
            ConfigError: the place cannot be used.
        """
        with self._told():
            self._client = _client(self.uri)
            before = start.memory.get_info(_MEMORY) if start.step else None
            self._id = self._found(before) or self._begun(start)
        start.memory.update_info(_MEMORY, self._id)
        see = f"; see it with: mlflow ui --backend-store-uri {self.uri}" if self.is_own else ""
        return f"run {self._id} of the experiment {self.name!r} at {_without_password(self.uri)}{see}"

    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """A point of each curve, in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_FOREIGN.sub("_", name), value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def write_text(self, name: str, text: str) -> None:
        """An artifact of that name."""
        self._client.log_text(self._id, text, name if Path(name).suffix else f"{name}.txt")

    def write_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """A picture with its step."""
        self._client.log_image(self._id, picture, key=_FOREIGN.sub("_", name), step=step)

    def end(self, outcome: str, start: Start, scores: Mapping[str, float]) -> None:
        """Keep the files of :data:`KEPT`, and tell MLflow the outcome."""
        for name in KEPT:
            path = self.work_dir / name
            if path.is_file():
                folder = str(Path(name).parent)
                self._client.log_artifact(self._id, str(path), None if folder == "." else folder)
        if scores:
            self.write_numbers(scores, start.memory.get_info("best_step") or 0)
        self._client.set_terminated(self._id, outcome)

    def _found(self, before: Any) -> str | None:
        """The run of the checkpoint, set going again."""
        from mlflow.exceptions import MlflowException

        if not isinstance(before, str):
            return None
        try:
            self._client.update_run(before, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.log.warning(f"the run {before} of the checkpoint is not at {_without_password(self.uri)}: a new one")
            return None
        return before

    def _begun(self, start: Start) -> str:
        from mlflow.entities import Param

        tags = {"medtransfer.config": start.name, **self.tags}
        run = self._client.create_run(self._experiment(), run_name=self.run, tags=tags)
        parameters = [Param(_FOREIGN.sub("_", name), str(value)[:LONGEST]) for name, value in start.parameters.items()]
        for first in range(0, len(parameters), MOST):
            self._client.log_batch(run.info.run_id, params=parameters[first : first + MOST])
        return str(run.info.run_id)

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        # a server knows where its files are; those of our own database lie beside it
        place = (self.work_dir.parent / ARTIFACTS).as_uri() if self.is_own else None
        found = self._client.get_experiment_by_name(self.name)
        if found is None:
            try:
                return str(self._client.create_experiment(self.name, artifact_location=place))
            except MlflowException:  # another run has just made it
                found = self._client.get_experiment_by_name(self.name)
        if found is None:
            raise ConfigError(f"trackers: mlflow cannot make the experiment {self.name!r}")
        return str(found.experiment_id)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever MLflow says of a place that cannot be used, in one line."""
        loggers = {logging.getLogger(name): logging.getLogger(name).level for name in _NOISY}
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:  # of MLflow, of requests, of the database
            reason = f"trackers: mlflow cannot be used at {self.uri}: {in_one_line(error)}"
            raise ConfigError(_without_password(reason), hint=_OWN_PLACE) from error
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


def _keep_quiet() -> None:
    """MLflow reports its own use to its makers, unless the variable is set when it is imported; MONAI imports it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with suppress(ImportError):  # versions that report nothing
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()  # again, by the variable; nothing was sent so far


def _client(uri: str) -> Any:
    """A client of its own: MLflow's functions of the module act on one run of the whole process."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _without_password(text: str) -> str:
    """A text whose URIs may be shown.

    >>> _without_password("no answer of http://anna:secret@server:5000/mlflow")
    'no answer of http://server:5000/mlflow'
    """
    return re.sub(r"//[^/@\s]*@", "//", text)


TRACKERS.register_module(name="mlflow", module=MLflow)
