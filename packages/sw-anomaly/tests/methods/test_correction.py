"""A correction tells places that look like those which misled from all others, and leaves these as they were."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_anomaly.methods.correction import Correction, GoodPlaces, hottest, spread

CHANNELS = 6


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def known():
    return GoodPlaces([draw(number, 50, CHANNELS) for number in range(4)])


def as_map(places):
    """Descriptions [P, C] as a row of places, [1, C, 1, P]."""
    return places.T[None, :, None]


def test_the_unit_is_how_far_good_places_of_different_images_are_apart():
    images = [3 + draw(number, 40, CHANNELS) * torch.arange(1, CHANNELS + 1) for number in range(3)]
    known = GoodPlaces(images)
    nearest = []
    for number, image in enumerate(images):
        others = [place for other, one in enumerate(images) if other != number for place in one]
        nearest += [min(torch.dist(place / known.scale, one / known.scale) for one in others) for place in image]
    assert np.median(nearest) == pytest.approx(1, rel=0.02)
    torch.testing.assert_close(GoodPlaces(images, 2 * known.scale).places, known.places / 2)


@pytest.mark.parametrize("is_good", [True, False])
def test_the_same_places_change_by_what_brings_the_score_past_the_threshold_and_good_ones_hardly(known, is_good):
    misleading = 30 + draw(9, 5, CHANNELS)
    ratio = 4.0 if is_good else 0.25
    correction = Correction.learn(misleading, known, is_good, ratio)
    factors = correction(as_map(misleading))[0, 0, 0]
    assert ((factors * ratio < 1) == is_good).all()
    assert factors.log().abs().numpy() == pytest.approx(2 * np.log(4), rel=1e-4)
    torch.testing.assert_close(correction(as_map(draw(0, 50, CHANNELS))), torch.ones(1, 1, 1, 50), rtol=0.05, atol=0)
    elsewhere = correction(as_map(-misleading))
    torch.testing.assert_close(elsewhere, torch.ones_like(elsewhere), rtol=0.01, atol=0)


def test_what_was_missed_teaches_nothing_where_it_looks_like_good_places(known):
    ordinary = draw(0, 50, CHANNELS)[:5]
    assert len(Correction.learn(ordinary, known, False, 0.5).places) == 0
    assert len(Correction.learn(torch.cat([ordinary, ordinary + 40]), known, False, 0.5).places) == 5
    nothing = Correction.learn(ordinary, known, False, 0.5)
    torch.testing.assert_close(nothing(as_map(ordinary)), torch.ones(1, 1, 1, 5))


@given(st.integers(0, 1000))
def test_the_strongest_of_each_kind_counts(seed):
    known = GoodPlaces([draw(seed + number, 20, CHANNELS) for number in range(2)])
    one = Correction.learn(8 + draw(seed, 4, CHANNELS), known, True, 3.0)
    other = Correction.learn(9 + draw(seed + 1, 4, CHANNELS), known, False, 0.5)
    correction = Correction.joined([one, other])
    places = 8.5 + 2 * draw(seed + 2, 12, CHANNELS)
    found = correction(places.T.reshape(1, CHANNELS, 3, 4))
    expected = []
    for place in (places / known.scale).double().numpy():
        distances = ((correction.places.double().numpy() - place) ** 2).sum(1)
        learned = correction.strength.numpy() * np.exp(-((distances / correction.reach.numpy() ** 2) ** 2) / 2)
        expected.append(np.exp(max(learned.max(), 0) + min(learned.min(), 0)))
    np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-3)
    swapped = Correction.joined([other, one])
    torch.testing.assert_close(swapped(as_map(places))[0, 0, 0], found.flatten())


def test_the_hottest_places_are_those_under_the_highest_values_of_the_map():
    places = torch.arange(600.0).view(1, 1, 20, 30)
    heat = torch.zeros(40, 60)
    heat[21, 11], heat[0, 59], heat[39, 0] = 5, 4, 3
    assert hottest(places, heat, np.inf).flatten().tolist() == [10 * 30 + 5, 29, 19 * 30]  # 0.5 % are three
    heat[2, 2] = 2
    assert len(hottest(places, heat, 2.0)) == 4
    assert 150 <= len(hottest(places, heat, 0.0)) <= 300
    assert 200 <= len(spread(places)) <= 400
