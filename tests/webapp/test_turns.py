"""Whose turn it is."""

import asyncio
import threading
import time
from types import SimpleNamespace

import gradio as gr
import pytest

from ssrnet_hub.errors import SSRNetHubError
from ssrnet_hub.webapp import Limits
from ssrnet_hub.webapp.gate import GatedBlocks
from ssrnet_hub.webapp.turns import ONE_EACH, Turns, Visitor

ONE, OTHER = Visitor("1.1.1.1", "one"), Visitor("2.2.2.2", "other")
TAB = Visitor("1.1.1.1", "another tab of one")


class Crowd:
    """Visitors who ask for turns, each in a thread; `done` is who had one."""

    def __init__(self, workers: int = 1):
        self._own = threading.local()
        self.left: set[Visitor] = set()
        self.done: list[Visitor] = []
        self.refused: list[Visitor] = []
        self.turns = Turns(workers, "test", lambda: self._own.visitor, lambda: self._own.visitor not in self.left)
        self._threads: list[threading.Thread] = []
        # until then all wait
        self.open = threading.Event()
        for _ in range(workers):
            self.ask(Visitor("", ""), self.open.wait)

    def ask(self, visitor: Visitor, work=lambda: None) -> None:
        def run() -> None:
            self._own.visitor = visitor
            try:
                self.turns.take(lambda: (work(), self.done.append(visitor)))
            except SSRNetHubError:
                self.refused.append(visitor)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()
        time.sleep(0.05)

    def go(self) -> list[Visitor]:
        self.open.set()
        for thread in self._threads:
            thread.join(30)
        return [visitor for visitor in self.done if visitor.host]


def test_the_next_of_one_comes_after_the_first_of_another():
    crowd = Crowd()
    for _ in range(4):
        crowd.ask(ONE)
    crowd.ask(OTHER)
    crowd.ask(OTHER)
    assert crowd.go() == [ONE, OTHER, ONE, OTHER, ONE, ONE]


def test_hosts_come_before_their_sessions():
    crowd = Crowd()
    for number in range(4):
        crowd.ask(Visitor(ONE.host, str(number)))
    crowd.ask(ONE)
    crowd.ask(OTHER)
    assert crowd.go().index(OTHER) == 1


def test_sessions_of_a_host_take_turns():
    crowd = Crowd()
    for _ in range(3):
        crowd.ask(ONE)
    crowd.ask(TAB)
    assert crowd.go() == [ONE, TAB, ONE, ONE]


def test_who_has_left_gets_no_turn():
    crowd = Crowd(workers=2)
    for visitor in (ONE, ONE, OTHER):
        crowd.ask(visitor)
    crowd.left.add(ONE)
    assert crowd.go() == [OTHER] and crowd.refused == [ONE, ONE]


def test_who_waits_when_it_ends_is_told():
    crowd = Crowd()
    crowd.ask(ONE)
    threading.Timer(0.2, crowd.open.set).start()
    crowd.turns.close()
    assert crowd.go() == [] and crowd.refused == [ONE]


def test_a_turn_that_fails_is_over():
    turns = Turns(1, "test", lambda: ONE, lambda: True)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            turns.take(lambda: 1 / 0)
    assert turns.take(lambda: 7) == 7


@pytest.fixture
def queue():
    with GatedBlocks(Limits()) as page:
        gr.Button().click(lambda: None, concurrency_limit=6, concurrency_id=ONE_EACH)
        gr.Button().click(lambda: None, concurrency_limit=4)
    page.queue(max_size=20)
    page._queue.active_jobs = [None] * 40
    return page._queue


def push(queue, visitor: Visitor, number: int) -> bool:
    data = {"data": [], "fn_index": number, "session_hash": visitor.session, "event_id": None}
    request = SimpleNamespace(client=SimpleNamespace(host=visitor.host, port=1))
    return asyncio.run(queue.push(SimpleNamespace(**data), request, None))[0]


def pull(queue) -> list[str]:
    """Sessions of what is begun now."""
    begun = []
    while found := queue.get_events():
        (event,), _, name = found
        queue.active_jobs[queue.active_jobs.index(None)] = [event]
        queue.event_queue_per_concurrency_id[name].current_concurrency += 1
        begun.append(event.session_hash)
    return begun


def test_one_film_of_each(queue):
    for visitor in (ONE, ONE, TAB, OTHER, OTHER):
        assert push(queue, visitor, 0)
    assert sorted(pull(queue)) == sorted([ONE.session, TAB.session, OTHER.session])


def test_the_last_place_is_for_another_host(queue):
    for number in range(8):
        assert push(queue, Visitor(ONE.host, str(number)), 0)
    assert pull(queue) == ["0", "1", "2", "3", "4"]
    assert push(queue, OTHER, 0)
    assert pull(queue) == [OTHER.session]


def test_requests_of_one_do_not_come_before_the_first_of_another(queue):
    for _ in range(3):
        assert push(queue, ONE, 1)
    assert push(queue, OTHER, 1)
    assert pull(queue) == [ONE.session, OTHER.session, ONE.session]


def test_nobody_fills_the_queue(queue):
    assert sum(push(queue, ONE, 1) for _ in range(15)) == 10
    assert sum(push(queue, Visitor(ONE.host, str(number)), 1) for number in range(15)) == 9
    assert push(queue, OTHER, 1)
    assert not push(queue, OTHER, 1)
