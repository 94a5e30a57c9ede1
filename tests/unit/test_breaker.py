from onhand.decision.breaker import Breaker, BreakerRule

RULE = BreakerRule(failures=3, timeout_ms=150, slow_ms=50, slow_share=0.5, calls=4, pause_ms=1_000)


def test_failures_in_a_row_open_it():
    breaker = Breaker(RULE)
    for _ in range(2):
        breaker.fail(0)
    breaker.succeed(1, 0)
    for _ in range(2):
        breaker.fail(0)
    assert breaker.allows(0)
    breaker.fail(0)
    assert (breaker.position, breaker.opened) == ("open", 1)
    assert not breaker.allows(999)


def test_after_a_pause_one_call_tries():
    breaker = Breaker(RULE)
    for _ in range(3):
        breaker.fail(0)
    assert breaker.allows(1_000)
    assert not breaker.allows(1_000), "one at a time"
    breaker.fail(1_100)
    assert not breaker.allows(2_000), "the pause begins again"
    assert breaker.allows(2_100)
    breaker.succeed(1, 2_101)
    assert breaker.position == "closed"
    assert breaker.allows(2_102)


def test_a_trial_that_was_not_made_leaves_it_to_the_next():
    breaker = Breaker(RULE)
    for _ in range(3):
        breaker.fail(0)
    assert breaker.allows(1_000)
    breaker.forgo()
    assert breaker.position == "half_open"
    assert breaker.allows(1_001)


def test_a_slow_trial_keeps_it_open():
    breaker = Breaker(RULE)
    for _ in range(3):
        breaker.fail(0)
    assert breaker.allows(1_000)
    breaker.succeed(60, 1_060)
    assert breaker.position == "open"


def test_too_many_slow_calls_open_it_and_few_do_not():
    breaker = Breaker(RULE)
    for took_ms in (60, 1, 60, 1, 60, 1):
        breaker.succeed(took_ms, 0)
    assert breaker.position == "closed"
    breaker.succeed(60, 0)
    breaker.succeed(60, 0)
    assert breaker.position == "open"


def test_an_answer_after_the_timeout_is_a_failure():
    breaker = Breaker(RULE)
    for _ in range(3):
        breaker.succeed(151, 0)
    assert breaker.position == "open"
