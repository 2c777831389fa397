"""A window of batches, shared out: whole batches first, every row once, none left over."""

import numpy as np
import pytest

from oofline.data.shares import share_out


def window(*sizes, longest=9):
    """Batches of these sizes, and the length of every row, falling from batch to batch."""
    ends = np.cumsum(sizes)
    batches = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return batches, np.linspace(longest, 1, int(ends[-1])).round().astype(np.int64)


def rows_of(shares):
    return sorted(int(row) for share in shares for piece in share for row in piece)


@pytest.mark.parametrize("sizes", [(8,), (8, 8), (8, 8, 8, 3), (2,), (1,), (5, 1), (8,) * 7])
@pytest.mark.parametrize("n_shares", [1, 2, 3, 5])
def test_every_row_stands_in_one_share(sizes, n_shares):
    batches, lengths = window(*sizes)
    shares = share_out(batches, lengths, n_shares)
    assert len(shares) == n_shares
    assert rows_of(shares) == list(range(sum(sizes)))
    assert all(len(piece) for share in shares for piece in share)
    if sum(sizes) >= n_shares:
        assert all(shares)
    if len(sizes) >= n_shares:  # no batch is cut: forward passes are those of one process
        whole = {tuple(batch) for batch in batches}
        assert {tuple(piece) for share in shares for piece in share} == whole


def test_two_batches_go_to_two_processes_in_order():
    batches, lengths = window(4, 4)
    assert [len(share) for share in share_out(batches, lengths, 2)] == [1, 1]
    first, second = share_out(batches[:1], lengths, 2)
    assert [first[0].tolist(), second[0].tolist()] == [[0, 1], [2, 3]]


def test_shares_hold_about_the_same_number_of_tokens():
    batches, lengths = window(*[8] * 9, longest=90)
    shares = share_out(batches, lengths, 3)
    loads = [sum(len(p) * int(lengths[p].max()) for p in share) for share in shares]
    assert max(loads) < 1.25 * min(loads)
    by_number = [batches[i::3] for i in range(3)]
    assert [len(share) for share in by_number] == [3, 3, 3]
    faulty = [batches[:3], batches[3:6], batches[6:]]
    loads = [sum(len(p) * int(lengths[p].max()) for p in share) for share in faulty]
    assert max(loads) > 1.25 * min(loads)


def test_a_window_with_fewer_rows_than_processes_leaves_some_without():
    batches, lengths = window(2)
    assert [len(share) for share in share_out(batches, lengths, 3)] == [1, 1, 0]
