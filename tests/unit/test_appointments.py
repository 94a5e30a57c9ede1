"""When what was refused may come again."""

from hypothesis import given
from hypothesis import strategies as st

from onhand.serving.appointments import LONGEST_S, Appointments, appoint

RATES = st.floats(0.5, 1000)


@given(st.floats(-1000, LONGEST_S), RATES)
def test_an_appointment_is_behind_the_last_one_unless_all_time_is_given_out(
    last_s: float, rate: float
):
    next_s = appoint(last_s, rate)
    assert 1 <= next_s <= LONGEST_S
    if last_s + 1 / rate <= LONGEST_S:
        assert next_s >= last_s + 1 / rate
    else:
        assert next_s == LONGEST_S / 2


@given(RATES, st.integers(1, 500))
def test_no_more_come_in_a_second_than_are_taken_until_all_time_is_given_out(
    rate: float, refused: int
):
    made = [1.0]
    while len(made) < refused and made[-1] + 1 / rate <= LONGEST_S:
        made.append(appoint(made[-1], rate))
    assert all(sum(begin <= each < begin + 1 for each in made) <= rate + 1 for begin in made)


def test_who_is_refused_comes_behind_those_that_were_refused_before():
    appointments = Appointments()
    for number in range(61):
        appointments.note_taken(70 + number / 2)
    assert [appointments.make(100.0) for _ in range(8)] == [1, 2, 2, 3, 3, 4, 4, 5]
    assert [appointments.make(102.0) for _ in range(2)] == [4, 4], "two seconds later"
    assert appointments.make(200.0) == 1, "nobody waits any more"


def test_the_time_that_is_left_is_given_out_again_from_its_middle_on():
    appointments = Appointments()
    assert [appointments.make(5.0) for _ in range(32)] == [*range(1, 31), 15, 16]


def test_where_more_is_taken_they_come_sooner():
    slow, fast = Appointments(), Appointments()
    for number in range(500):
        fast.note_taken(number / 100)
    assert [each.make(5.0) for each in (slow, fast) for _ in range(4)] == [1, 2, 3, 4, 1, 2, 2, 2]
