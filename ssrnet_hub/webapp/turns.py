"""Whose turn it is: a visitor's next piece of work does not come before another's first."""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import Any, NamedTuple, Optional, TypeVar

from gradio.queueing import Event, Queue

from ..errors import SSRNetHubError

__all__ = ["ONE_EACH", "FairQueue", "Turns", "Visitor", "visitor_of"]

T = TypeVar("T")

ONE_EACH = "one each"
"""Concurrency id of functions that a visitor may have run once at a time."""

_REMEMBERED = 2000


class Visitor(NamedTuple):
    """A visitor: a session and its host, which is the same for all behind a proxy."""

    host: str
    session: str


def visitor_of(event: Event) -> Visitor:
    """Visitors of the events in Gradio's queue."""
    client = event.request.client
    return Visitor(client.host if client else "", event.session_hash)


class _Order:
    """Fair order: next is the visitor with the least work in progress, then the one whose last turn is longest ago.
    Hosts are compared before sessions, since anybody can open any number of sessions.
    """

    def __init__(self) -> None:
        self._number = 0
        self._last: OrderedDict[Any, int] = OrderedDict()

    def rank(self, visitor: Visitor, at_work: Counter[Any]) -> tuple[int, int, int, int]:
        """Of whom this is the lowest, the turn is."""
        host, last = visitor.host, self._last
        return at_work[host], last.get(host, 0), at_work[visitor], last.get(visitor, 0)

    def note(self, visitor: Visitor) -> None:
        """It was the turn of this one."""
        self._number += 1
        for who in (visitor.host, visitor):
            self._last[who] = self._number
            self._last.move_to_end(who)
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)


class Turns:
    """Runs tasks in a bounded number of threads, in a fair order.

    Args:
        workers: Number of threads.
        name: Name of the threads.
        visitor: Returns the current visitor.
        has_listener: Returns whether the visitor still waits for the result.
    """

    def __init__(self, workers: int, name: str, visitor: Callable[[], Visitor], has_listener: Callable[[], bool]):
        self._visitor, self._has_listener = visitor, has_listener
        # each waiting visitor has a thread, in which PyTorch would start more threads
        self._threads = ThreadPoolExecutor(workers, name)
        self._free = workers
        self._changed = Condition()
        self._order = _Order()
        self._waiting: list[Visitor] = []
        self._at_work: Counter[Any] = Counter()
        self._closed = False

    def take(self, work: Callable[..., T], *args: Any) -> T:
        """Do a piece of work when it is one's turn.

        Raises:
            SSRNetHubError: Nobody waits for it any more, or no more work is done here.
        """
        visitor = self._visitor()
        with self._changed:
            self._waiting.append(visitor)
            try:
                while not (self._free and self._next() == visitor):
                    self._check()
                    self._changed.wait(1)
                self._check()
                self._free -= 1
                self._at_work.update((visitor.host, visitor))
                self._order.note(visitor)
            finally:
                self._waiting.remove(visitor)
                self._changed.notify_all()
        try:
            return self._threads.submit(work, *args).result()
        finally:
            with self._changed:
                self._free += 1
                self._at_work.subtract((visitor.host, visitor))
                self._at_work += Counter()  # drop empty entries
                self._changed.notify_all()

    def close(self) -> None:
        """Take no more work; what is begun is done, and what waits is not."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown()

    def _next(self) -> Visitor:
        return min(self._waiting, key=lambda visitor: self._order.rank(visitor, self._at_work))

    def _check(self) -> None:
        if self._closed or not self._has_listener():
            raise SSRNetHubError("The request was canceled.")


class FairQueue(Queue):
    """Gradio's queue in a fair order, in which nobody has all the places, nor one session more than half of them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._order = _Order()

    @classmethod
    def instead_of(cls, queue: Queue) -> "FairQueue":
        """A queue with the settings of another."""
        return cls(
            live_updates=queue.live_updates,
            concurrency_count=queue.max_thread_count,
            update_intervals=queue.update_intervals,
            max_size=queue.max_size,
            blocks=queue.blocks,
            default_concurrency_limit=queue.default_concurrency_limit,
        )

    async def push(self, body: Any, request: Any, username: Optional[str]) -> Any:
        if self.max_size:
            waiting = _count(event for group in self.event_queue_per_concurrency_id.values() for event in group.queue)
            visitor = Visitor(request.client.host if request.client else "", body.session_hash or "")
            if not _has_room(visitor, waiting, self.max_size):
                return False, "You have many requests in the queue: wait until some of them are answered.", "queue_full"
        return await super().push(body, request, username)

    def get_events(self) -> Optional[tuple[list[Event], bool, str]]:
        groups = list(self.event_queue_per_concurrency_id.items())
        random.shuffle(groups)
        for name, group in groups:
            limit = group.concurrency_limit or self.max_thread_count
            if not group.queue or group.current_concurrency >= limit:
                continue
            at_work = _count(event for job in self.active_jobs for event in job or () if event.concurrency_id == name)
            most = 1 if name == ONE_EACH else None
            ready = [event for event in group.queue if _has_room(visitor_of(event), at_work, limit, most)]
            if ready:
                event = min(ready, key=lambda event: self._order.rank(visitor_of(event), at_work))
                group.queue.remove(event)
                self._order.note(visitor_of(event))
                return [event], event.fn.batch, name
        return None


def _count(events: Iterable[Event]) -> Counter[Any]:
    visitors = [visitor_of(event) for event in events]
    return Counter(visitors) + Counter(visitor.host for visitor in visitors)


def _has_room(visitor: Visitor, counts: Counter[Any], places: int, most: Optional[int] = None) -> bool:
    """Whether another task of this visitor leaves room for others."""
    of_session, of_host = most or max(1, places // 2), max(1, places - 1)
    return counts[visitor] < of_session and counts[visitor.host] < of_host
