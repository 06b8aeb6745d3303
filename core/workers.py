"""Work on many items at once, in processes here or on a Ray cluster; a kill loses what is in flight at most."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

from affordagent.core.errors import AffordAgentError

MOST_ERRORS = 5  # after so many items that raised, nothing new is begun
LOCAL_CLUSTER = "local"
ITEMS_A_PROCESS = 25  # then a fresh one takes its place: renderers and compiled scenes do not give all memory back


class Keyed(Protocol):
    """key: the item's name, equal for equal items."""

    @property
    def key(self) -> str: ...


Item = TypeVar("Item", bound=Keyed)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """submit: begin the work on an item. at_once: how many items it works on side by side."""

    submit: Callable[[Callable[[Any], Any], Any], Future[Any]]
    at_once: int


@contextmanager
def process_pool(workers: int) -> Iterator[Pool]:
    """Fresh processes on this machine, one thread each. They end with this one, however it ends."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    settings: Any = {"initializer": _prepare_worker, "max_tasks_per_child": ITEMS_A_PROCESS}
    with ProcessPoolExecutor(workers, mp_context=context, **settings) as pool:
        try:
            yield Pool(pool.submit, workers)
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


@contextmanager
def ray_cluster(address: str, workers: int | None = None) -> Iterator[Any]:
    """The package `ray`, connected to a cluster: its address, "auto", or "local" for one of its own on this machine,
    with `workers` CPUs (default: all).

    Raises:
        AffordAgentError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise AffordAgentError('Ray is not installed: pip install "affordagent[ray]"') from error
    try:
        if address == LOCAL_CLUSTER:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise AffordAgentError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def ray_pool(address: str, workers: int | None = None) -> Iterator[Pool]:
    """A Ray cluster, see `ray_cluster`. A task takes one CPU.

    workers: items at once, by default as many as the cluster has CPUs. The package must be installed on every node, and
    what the work writes must be on a disk that all nodes share.

    Raises:
        AffordAgentError: Ray is not installed, or the cluster cannot be reached.
    """
    with ray_cluster(address, workers) as ray:

        @ray.remote(max_retries=0, max_calls=ITEMS_A_PROCESS)
        def run(work: Callable[[Any], Any], item: Any) -> Any:
            return work(item)

        def submit(work: Callable[[Any], Any], item: Any) -> Future[Any]:
            result: Future[Any] = run.remote(work, item).future()
            return result

        yield Pool(submit, workers or int(ray.cluster_resources()["CPU"]))


def work_through(
    pool: Pool,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    on_result: Callable[[Result], None],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Work on the items, in their order as far as that goes; `on_result` gets each result as it ends.

    An item that raises does not keep the others from being worked on. At the first Ctrl-C nothing new is begun and what
    is in flight is finished; a second one drops that too. say: told that this is so.

    Raises:
        AffordAgentError: some items raised (all others are done), or a process died.
        KeyboardInterrupt: after Ctrl-C.
    """
    waiting = iter(items)
    running: dict[Future[Result], Item] = {}
    raised: dict[str, BaseException] = {}
    with _stoppable(lambda: say(f"stopping: finishing {len(running)} in flight; Ctrl-C again drops them")) as stopped:
        while True:
            while len(running) < pool.at_once and not stopped.is_set() and len(raised) < MOST_ERRORS:
                item = next(waiting, None)
                if item is None:
                    break
                running[pool.submit(work, item)] = item
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    keys = ", ".join(sorted(i.key for i in (item, *running.values())))
                    raise AffordAgentError(
                        f"a worker process died (out of memory?) while these were in flight: {keys}. What ended before "
                        "is kept; the same command goes on, with fewer --workers if memory is short"
                    ) from error
                if error is None:
                    on_result(future.result())
                else:
                    raised[item.key] = error
    if stopped.is_set():
        raise KeyboardInterrupt
    if raised:
        named = "; ".join(f"{key}: {type(e).__name__}: {e}" for key, e in raised.items())
        raise AffordAgentError(f"{len(raised)} raised ({named}); the same command tries them again") from next(
            iter(raised.values())
        )


@contextmanager
def _stoppable(on_stop: Callable[[], None]) -> Iterator[threading.Event]:
    """The event is set by the first Ctrl-C; the second raises. Signals come to the main thread only."""
    stopped = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        on_stop()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare_worker() -> None:
    """Ctrl-C is for the parent to deal with; and when the parent is killed, so is this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # whatever it is in the middle of
