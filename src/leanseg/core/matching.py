"""One-to-one matching of the least total cost (the assignment problem), in numpy alone."""

import math

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

Order = npt.NDArray[np.int64]


def assign(costs: npt.ArrayLike, *, maximise: bool = False) -> tuple[Order, Order]:
    """Return rows and columns of the matching of the least (or largest) total: min(R, C) pairs, rows ascending.

    Shortest augmenting paths with dual variables (Jonker and Volgenant 1987; for rectangles as in Crouse 2016): the
    rows, or the columns where they are fewer, find a partner one after the other. Of several best matchings the one of
    `scipy.optimize.linear_sum_assignment` is returned, whose order of search this follows: with equal costs everywhere
    row k gets column k. Cost O(R C min(R, C)) steps of Python; meant for tens of objects.

    >>> rows, columns = assign([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> columns.tolist()
    [1, 0, 2]
    """
    matrix = np.asarray(costs, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError(f"costs has shape {matrix.shape}; expected a matrix (R, C) of finite numbers")
    if maximise:
        matrix = -matrix
    if matrix.shape[0] <= matrix.shape[1]:
        return np.arange(matrix.shape[0]), np.array(_partners(matrix.tolist()), dtype=np.int64)
    rows = np.array(_partners(matrix.T.tolist()), dtype=np.int64)
    order = np.argsort(rows)
    return rows[order], order.astype(np.int64, copy=False)


def _partners(costs: list[list[float]]) -> list[int]:
    """Return the column of each row, of a matrix with at least as many columns as rows."""
    n_columns = len(costs[0]) if costs else 0
    column_of, row_of = [-1] * len(costs), [-1] * n_columns
    row_price, column_price = [0.0] * len(costs), [0.0] * n_columns
    for start in range(len(costs)):
        length, came_from = [math.inf] * n_columns, [-1] * n_columns
        # Backwards, and the last moves into the gap of one that is settled: this order decides between equal paths.
        open_columns, settled = list(range(n_columns))[::-1], []
        row, reached = start, 0.0
        while True:
            nearest, at = math.inf, -1
            for place, column in enumerate(open_columns):
                through = reached + costs[row][column] - row_price[row] - column_price[column]
                if through < length[column]:
                    length[column], came_from[column] = through, row
                if length[column] < nearest or (length[column] == nearest and row_of[column] == -1):
                    nearest, at = length[column], place
            reached, column = nearest, open_columns[at]
            open_columns[at] = open_columns[-1]
            open_columns.pop()
            if row_of[column] == -1:
                break
            settled.append(column)
            row = row_of[column]
        row_price[start] += reached
        for seen in settled:
            row_price[row_of[seen]] += reached - length[seen]
            column_price[seen] -= reached - length[seen]
        row = -1
        while row != start:
            row = came_from[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of
