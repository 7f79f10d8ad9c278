"""What is told to a user."""

from sr_zoo.errors import one_line, percent


def test_only_a_whole_is_100_percent():
    assert [percent(s) for s in (1, 1 - 1e-9, 0.5, 0)] == ["100 %", "99.999 %", "50.000 %", "0.000 %"]


def test_one_line():
    assert one_line(ValueError("first\nsecond")) == "first" and one_line(EOFError()) == "EOFError"
