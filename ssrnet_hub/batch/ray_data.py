"""Estimate ages in many photos on a Ray cluster with Ray Data; requires the extra ``ray``."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pyarrow
import pyarrow.compute
import ray
from pyarrow.fs import FileSystem, FileType
from ray.data import ActorPoolStrategy, Dataset

from ..errors import OutputError
from ..utils.forks import set_threads
from ..utils.io import assert_free
from .local import Counts, Predictor, Task
from .output import to_table
from .records import columns_of

__all__ = ["predict_ray"]

_BATCH = 16
"""Photos that an actor is handed at a time."""

_CORE = 0.9
"""Share of a core that an actor requests from Ray; the rest is for tasks that write the results, or Ray deadlocks."""

_ROWS = 10_000
"""Rows that are written together: to write a few takes as long as to find them."""


class _Actor:
    """An `Predictor` for the batches of Ray Data."""

    def __init__(self, explain: bool, options: dict[str, Any]):
        # an actor has the core that Ray gave it, and not those of its neighbors
        set_threads(1)
        self._columns = columns_of(explain)
        self._predictor = Predictor(explain, **options)

    def __call__(self, batch: dict[str, np.ndarray]) -> pyarrow.Table:
        paths = [str(path) for path in batch["path"]]
        photos = batch["bytes"] if "bytes" in batch else map(Path, paths)
        tasks = [Task(path, photo) for path, photo in zip(paths, photos, strict=True)]
        return to_table(self._predictor(tasks), self._columns)


def predict_ray(
    photos: Union[Iterable[Union[str, os.PathLike]], Dataset],
    output: Union[str, os.PathLike],
    *,
    concurrency: Optional[int] = None,
    gpus: float = 0,
    explain: bool = False,
    **options: Any,
) -> Counts:
    """Estimate the ages of all faces in photos on the cluster that `ray.init` joined.

    A photo that cannot be read is a row with an error. Work from failed workers is retried.

    Args:
        photos: Paths that all machines can read; or a dataset with the column ``path`` and optionally ``bytes``, such
            as that of ``ray.data.read_binary_files(..., include_paths=True)`` for files in cloud storage.
        output: Folder for Parquet files with a row per face, which all machines must see, or its address in cloud
            storage.
        concurrency: Number of actors. Default: one per core, or per share ``gpus`` of a GPU.
        gpus: Share of a GPU per actor, such as 0.25, to run on GPUs.
        explain: Also write the contributions of the stages.
        **options: Options of `AgeEstimator`; ``model`` and ``gender`` by name.

    Returns:
        Counts of the output.

    Raises:
        OutputError: The output already exists.
    """
    if "://" in str(output):
        _assert_no_folder(str(output))
    else:
        output = Path(output).absolute()
        assert_free(output)
    dataset = photos if isinstance(photos, Dataset) else _of_paths(photos)
    if gpus:
        options.setdefault("device", "cuda")
    most = concurrency or max(int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1) / (gpus or 1)), 1)
    # starting one per core would leave none to read the dataset
    first = 1 if dataset is photos else most
    found = dataset.map_batches(
        _Actor,
        fn_constructor_args=(explain, options),
        batch_size=_BATCH,
        compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=first),
        num_cpus=None if gpus else _CORE,
        num_gpus=gpus or None,
    )
    found.write_parquet(str(output), min_rows_per_file=_ROWS, ray_remote_args={"num_cpus": 1 - _CORE})
    return _count(str(output))


def _assert_no_folder(address: str) -> None:
    """Check that nothing exists at a URI that pyarrow supports; Ray would append to it."""
    try:
        filesystem, path = FileSystem.from_uri(address)
        there = filesystem.get_file_info(path).type != FileType.NotFound
    except (OSError, pyarrow.ArrowException):
        # Ray checks whether it can be written
        return
    if there:
        raise OutputError(f"{address} already exists: choose another folder, or remove it.")


def _count(output: str) -> Counts:
    photos = failed = 0
    batch: pyarrow.Table
    for batch in ray.data.read_parquet(output).select_columns(["face", "error"]).iter_batches(batch_format="pyarrow"):
        # a photo has one row without a face, or one of its first
        photos += len(batch) - pyarrow.compute.sum(pyarrow.compute.greater(batch["face"], 1), min_count=0).as_py()
        failed += len(batch) - batch["error"].null_count
    return Counts(photos, failed)


def _of_paths(photos: Iterable[Union[str, os.PathLike]]) -> Dataset:
    """Paths as a dataset, in blocks small enough that a lost one is soon made up for."""
    paths = [str(Path(photo).absolute()) for photo in photos]
    return ray.data.from_items([{"path": path} for path in paths], override_num_blocks=max(len(paths) // _BATCH, 1))
