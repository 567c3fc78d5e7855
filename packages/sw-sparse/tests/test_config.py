import pytest

from sw_sparse import SparsityConfig


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("sparsity", 1.0),
        ("sparsity", -0.1),
        ("granularity", "block"),
        ("align_every", 0),
        ("update_every", 0),
        ("distribution", "even"),
        ("initialisation", "zero"),
        ("importance", "size"),
        ("update", "grow"),
        ("schedule", "linear"),
        ("drop_fraction", 1.5),
        ("final_drop_fraction", -1),
    ],
)
def test_a_bad_value_is_named(argument, value):
    with pytest.raises(ValueError, match=f"^{argument}: got '?{value}"):
        SparsityConfig(**{argument: value})


def test_n_to_m_fixes_the_sparsity():
    assert SparsityConfig(granularity="2:8").off == 0.75
    with pytest.raises(ValueError, match=r"2:4 makes it 0\.5"):
        SparsityConfig(granularity="2:4", sparsity=0.3)


def test_schedules_that_end_need_a_length():
    for wrong in ({"schedule": "cosine"}, {"update": "gradual"}):
        with pytest.raises(ValueError, match="total_steps"):
            SparsityConfig(**wrong)


def test_published_runs_in_the_one_mode_that_ran():
    with pytest.raises(ValueError, match="published: wants"):
        SparsityConfig(published=True)


def test_updates_come_at_multiples_until_the_schedule_ends_where_its_progress_is_one():
    config = SparsityConfig(update_every=10, total_steps=35)
    assert [step for step in range(60) if config.updates_at(step)] == [10, 20, 30]
    assert config.progress(30) == 1
