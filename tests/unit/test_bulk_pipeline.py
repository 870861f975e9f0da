from __future__ import annotations

import threading
from collections import Counter

from sam3_backend.bulk.pipeline import outcomes
from sam3_backend.bulk.work import Done, Failed, Task
from sam3_backend.errors import ImageUndecodable, ImageUnreachable

TASKS = [Task(number, {}) for number in range(20)]


def test_every_task_has_one_outcome():
    results = list(outcomes(iter(TASKS), lambda task: Done(task, {}), 4))
    assert sorted(each.task.number for each in results) == list(range(20))


def test_faults_that_pass_are_tried_again_and_others_are_not():
    attempts: Counter[int] = Counter()

    def work(task: Task) -> Done:
        attempts[task.number] += 1
        if task.number == 1 and attempts[1] < 3:
            raise ImageUnreachable("Not now.")
        if task.number == 2:
            raise ImageUndecodable("Never.")
        if task.number == 3:
            raise ImageUnreachable("Never, but who knows.")
        if task.number == 4:
            raise ZeroDivisionError
        return Done(task, {})

    results = list(outcomes(iter(TASKS), work, 4, retry_after_s=(0.0, 0.01)))
    failed = {each.task.number: each.code for each in results if isinstance(each, Failed)}
    assert failed == {2: "image_undecodable", 3: "image_unreachable", 4: "unexpected"}
    assert [attempts[number] for number in (1, 2, 3, 4)] == [3, 1, 3, 1]
    assert len(results) == 20


def test_no_more_than_so_many_are_under_way_and_none_is_taken_ahead():
    taken = 0
    release = threading.Event()

    def source():
        nonlocal taken
        for task in TASKS:
            taken += 1
            yield task

    def work(task: Task) -> Done:
        if task.number:
            release.wait(20)
        return Done(task, {})

    results = outcomes(source(), work, 3)
    next(results)
    assert taken == 3
    release.set()
    results.close()
    assert taken == 3


def test_a_run_that_is_given_up_leaves_no_thread_behind():
    results = outcomes(iter(TASKS), lambda task: Done(task, {}), 3)
    next(results)
    results.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("bulk")]
