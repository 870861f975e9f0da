"""Only what nobody reads any more is superseded."""

from __future__ import annotations

from sam3_backend.label_studio.newest import NewestRequests


def ids(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_a_request_with_all_my_prompts_and_more_takes_my_place() -> None:
    newest = NewestRequests()
    with newest.answering("1", 7, ids("a")) as first, newest.answering("1", 7, ids("a", "b")) as second:
        assert not first()
        assert second()


def test_the_same_prompts_sent_again_count_as_newer() -> None:
    newest = NewestRequests()
    with newest.answering("1", 7, ids("a")) as first, newest.answering("1", 7, ids("a")) as again:
        assert not first()
        assert again()


def test_two_annotators_on_one_task_do_not_supersede_each_other() -> None:
    newest = NewestRequests()
    with newest.answering("1", 7, ids("mine")) as mine, newest.answering("1", 7, ids("theirs", "too")) as theirs:
        assert mine()
        assert theirs()


def test_other_tasks_and_projects_are_other_matters() -> None:
    newest = NewestRequests()
    with (
        newest.answering("1", 7, ids("a")) as first,
        newest.answering("1", 8, ids("a")),
        newest.answering("2", 7, ids("a")),
    ):
        assert first()


def test_once_the_newer_request_is_over_the_older_one_is_computed_after_all() -> None:
    newest = NewestRequests()
    with newest.answering("1", 7, ids("a")) as first:
        with newest.answering("1", 7, ids("a", "b")):
            assert not first()
        assert first()


def test_requests_without_ids_are_all_answered() -> None:
    newest = NewestRequests()
    with newest.answering(None, None, ids()) as first, newest.answering(None, None, ids("a")):
        assert first()


def test_nothing_is_kept_of_requests_that_were_answered() -> None:
    newest = NewestRequests()
    with newest.answering("1", 7, ids("a")):
        pass
    assert not newest._answering
