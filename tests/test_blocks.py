"""Sparse predictions behave as the dense tables that they stand for."""

import numpy as np
import pandas as pd
import pytest

from oofline.blocks import (
    SMALLEST,
    average,
    blank,
    cells,
    column_names,
    finite,
    from_arrays,
    from_cells,
    from_columns,
    joined,
    largest_difference,
    of_rows,
    stacked,
    to_arrays,
    to_columns,
    weighted_sum,
)

NAMES = ("start", "end")


def dense(block, width=40):
    return block[:, :width].toarray()


@pytest.fixture
def made():
    """made(seed) -> (block, the same as a table (7, 40)); row 3 is empty."""

    def make(seed=0):
        rng = np.random.default_rng(seed)
        rows, columns = rng.integers(0, 7, 60), rng.integers(0, 40, 60)
        rows[rows == 3] = 4
        values, table = rng.random(60), np.zeros((7, 40))
        np.add.at(table, (rows, columns), values)
        return from_cells(rows, columns, values, 7), table

    return make


def test_cells_of_one_place_are_added_and_tiny_ones_left_out(made):
    block, table = made()
    np.testing.assert_allclose(dense(block), table, rtol=1e-6)
    tiny = from_cells(np.array([0, 0]), np.array([1, 2]), np.array([SMALLEST / 2, 0.5]), 1)
    assert tiny.nnz == 1


def test_a_parquet_file_gives_back_what_was_stored(made, tmp_path):
    block, _ = made()
    pd.DataFrame(to_columns("pred", NAMES, block)).to_parquet(tmp_path / "x.parquet")
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert list(frame.columns) == column_names("pred", NAMES, sparse=True)
    assert largest_difference(from_columns("pred", NAMES, frame), block) == 0
    assert largest_difference(from_columns("pred", NAMES, frame[2:5]), block[2:5]) == 0


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_at_all_is_stored_too(n):
    block = blank(n, 2, sparse=True)
    frame = pd.DataFrame(to_columns("pred", NAMES, block))
    assert from_columns("pred", NAMES, frame).shape == block.shape


def test_tables_are_stored_as_numbers():
    table = np.arange(6.0).reshape(3, 2)
    frame = pd.DataFrame(to_columns("pred", NAMES, table))
    assert list(frame.columns) == column_names("pred", NAMES, sparse=False)
    np.testing.assert_array_equal(from_columns("pred", NAMES, frame), table)


def test_means_and_weighted_sums_are_those_of_the_tables(made):
    pairs = [made(seed) for seed in range(3)]
    blocks, tables = [b for b, _ in pairs], np.stack([t for _, t in pairs])
    weights = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(dense(average(blocks)), tables.mean(0), rtol=1e-5, atol=1e-7)
    mixed = weighted_sum(weights, blocks)
    wanted = np.tensordot(weights, tables, 1)
    np.testing.assert_allclose(dense(mixed), wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(weighted_sum(weights, tables), wanted)
    np.testing.assert_allclose(average(tables), tables.mean(0))
    per_target = np.random.default_rng(0).random((3, 40))
    np.testing.assert_allclose(
        weighted_sum(per_target, tables), np.einsum("mt,mnt->nt", per_target, tables)
    )


def test_rows_are_taken_and_joined(made):
    block, table = made()
    rows = np.array([5, 0, 3])
    left = np.array([1, 2, 4, 6])
    whole = joined([(rows, block[rows]), (left, block[left])])
    assert largest_difference(whole, block) == 0
    np.testing.assert_array_equal(joined([(rows, table[rows]), (left, table[left])]), table)
    taken = of_rows([block, block], rows)
    np.testing.assert_allclose(dense(taken[1]), table[rows], rtol=1e-6)
    assert of_rows(np.stack([table, table]), rows).shape == (2, 3, 40)
    assert isinstance(stacked([block]), list)


def test_single_cells(made):
    block, table = made()
    columns = np.array([0, 3, 5, 7, 9, 39, 2])
    np.testing.assert_allclose(cells(block, columns), table[np.arange(7), columns], rtol=1e-6)


def test_rows_that_are_not_finite_are_found(made):
    block, table = made()
    assert finite(block).all()
    block.data[block.indptr[2]] = np.nan
    assert finite(block).tolist() == [True, True, False, True, True, True, True]
    table[1, 1] = np.inf
    assert finite(table).tolist() == [True, False, *[True] * 5]
    assert np.isnan(largest_difference(block, made()[0]))


def test_arrays_for_a_state_file(made):
    block, table = made()
    assert largest_difference(from_arrays(to_arrays(block)), block) == 0
    assert from_arrays(to_arrays(table)) is table
