import pytest

from sw_sparse.schedules import SCHEDULES


@pytest.mark.parametrize("name", ["cosine", "cubic"])
def test_goes_from_start_to_end(name):
    values = [SCHEDULES[name](0.3, 0.005, i / 20) for i in range(21)]
    assert values[0] == pytest.approx(0.3)
    assert values[-1] == pytest.approx(0.005)
    assert values == sorted(values, reverse=True)


def test_constant_stays():
    assert SCHEDULES["constant"](0.3, 0.005, 0.7) == 0.3


def test_halfway():
    assert SCHEDULES["cosine"](1, 0, 0.5) == pytest.approx(0.5)
    assert SCHEDULES["cubic"](1, 0, 0.5) == pytest.approx(0.125)


def test_cosine_is_the_published_one(golden):
    values = golden.json["cosine_decay"]["values_step0_to_110"]
    assert [SCHEDULES["cosine"](0.3, 0.005, step / 100) for step in range(111)] == pytest.approx(values, abs=1e-12)
