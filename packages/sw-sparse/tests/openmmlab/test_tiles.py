import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.openmmlab.tiles import OVERLAP, tiles_of

lengths = st.integers(1, 400)


@given(lengths, lengths, st.integers(64, 200))
def test_own_parts_cover_every_pixel_once_and_lie_in_their_tiles(height, width, side):
    seen = np.zeros((height, width), dtype=int)
    for tile in tiles_of(height, width, side):
        seen[tile.own_rows, tile.own_columns] += 1
        for whole, own, length in ((tile.rows, tile.own_rows, height), (tile.columns, tile.own_columns, width)):
            assert 0 <= whole.start <= own.start < own.stop <= whole.stop <= length
            assert whole.stop - whole.start == min(side, length)
    assert (seen == 1).all()


@given(lengths, st.integers(64, 200))
def test_neighbors_overlap(width, side):
    tiles = list(tiles_of(1, width, side))
    for left, right in itertools.pairwise(tiles):
        assert left.columns.stop - right.columns.start >= round(OVERLAP * side)
