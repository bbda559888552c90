"""A lock of the system on a file, by which a run keeps others away."""

try:
    import fcntl
except ImportError:  # no such locks on Windows: two runs in one place are then not told apart
    fcntl = None  # type: ignore[assignment]


def taken(file: int) -> bool:
    """Take the lock of an open file; False where another holds it.

    The system lets go of it when the file is closed, or its process is killed.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
