"""What a thread behind the page leaves to the one that answers it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import get_native_id

import pytest

from onhand.priority import give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no processors there")


def _left_to(thread: int) -> tuple[set[int], int]:
    give_way(thread)
    return os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, get_native_id())


def test_long_work_keeps_off_the_processor_of_the_thread_that_answers_pages() -> None:
    here = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as aside:
        for _ in range(3):
            there, priority = aside.submit(_left_to, get_native_id()).result()
            assert there < here or there == here == {min(here)}
            assert len(there) == max(len(here) - 1, 1)
            assert priority == 19
    assert os.sched_getaffinity(0) == here


def test_long_work_has_the_one_processor_that_there_is() -> None:
    here = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(here)})
        with ThreadPoolExecutor(1) as aside:
            assert aside.submit(_left_to, get_native_id()).result()[0] == {min(here)}
    finally:
        os.sched_setaffinity(0, here)
