import matrix
import pytest


@pytest.mark.parametrize("row", matrix.ROWS, ids=lambda row: row.name)
def test_what_the_matrix_promises_holds(row):
    assert matrix.result(row.name)


def test_the_matrix_in_the_readme_is_what_the_rows_gave():
    _, shown, tail = matrix.parts(matrix.README.read_text())
    assert tail, "the README has no place for it"
    assert shown == matrix.table(), "run `python tests/matrix.py`"


def test_no_two_rows_have_one_name():
    names = [row.name for row in matrix.ROWS]
    assert len(set(names)) == len(names)
