import matrix
import pytest
import readme


@pytest.mark.parametrize("row", matrix.ROWS, ids=lambda row: row.name)
def test_what_the_matrix_promises_holds(row):
    assert matrix.result(row.name)


def test_the_matrix_in_the_readme_is_what_the_rows_gave():
    assert readme.shown("matrix") == matrix.table(), "run `python tests/matrix.py`"


def test_no_two_rows_have_one_name():
    names = [row.name for row in matrix.ROWS]
    assert len(set(names)) == len(names)
