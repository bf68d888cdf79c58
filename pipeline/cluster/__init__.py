"""What runs tasks side by side: threads of this process, or a Dask scheduler with workers elsewhere.

Not here: what the tasks do. This is the only package of the batch job that knows Dask.
"""

from pipeline.cluster.client import DaskExecutor, active_client, executor_on
from pipeline.cluster.connection import connect, workers_of, workers_planned
from pipeline.cluster.threads import ThreadsExecutor

__all__ = ["DaskExecutor", "ThreadsExecutor", "active_client", "connect", "executor_on", "workers_of", "workers_planned"]
