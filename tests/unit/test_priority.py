"""What a thread behind the page leaves to the one that answers it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import get_native_id

import pytest

from onhand.priority import give_way, keep_off

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no processors there")


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, get_native_id())


def _left_by(thread: int) -> tuple[set[int], set[int]]:
    with keep_off(thread):
        meanwhile = os.sched_getaffinity(0)
    return meanwhile, os.sched_getaffinity(0)


def test_long_work_keeps_off_the_processor_of_the_thread_that_answers_pages() -> None:
    here = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as aside:
        meanwhile, afterwards = aside.submit(_left_by, get_native_id()).result()
    assert afterwards == here
    assert meanwhile <= here
    assert len(meanwhile) == max(len(here) - 1, 1)


def test_long_work_has_the_one_processor_that_there_is() -> None:
    here = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(here)})
        with ThreadPoolExecutor(1) as aside:
            assert aside.submit(_left_by, get_native_id()).result() == ({min(here)}, {min(here)})
    finally:
        os.sched_setaffinity(0, here)


def test_a_thread_that_gives_way_has_the_lowest_priority() -> None:
    with ThreadPoolExecutor(1, initializer=give_way) as aside:
        assert aside.submit(_priority).result() == 19 > _priority()
