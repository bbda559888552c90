import errno
import io
import os
from pathlib import Path

import pytest


@pytest.fixture
def toy(tmp_path_factory, monkeypatch):
    """A folder of weights for the network in toy.py, which the table of models then has."""
    import toy  # torch is imported by the tests that need it

    from srpipe.models import MODELS

    monkeypatch.setitem(MODELS, "toy", toy.SPEC)
    return toy.install(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def run(toy, tmp_path, monkeypatch, capfd):
    """The command in an empty folder: its exit code and the lines of both outputs."""
    from srpipe.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words, command="upscale"):
        model = ("-m", "toy", "--weights", str(toy)) if command == "upscale" else ()
        code = main([command, *model, *words])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder of mode 000, as anybody but root sees it."""
    folder = tmp_path / "locked"
    folder.mkdir()

    def refusing(ask, *, itself):
        def asked(path, *rest, **more):
            inside = isinstance(path, str | os.PathLike) and folder in Path(path).absolute().parents
            if inside or (itself and Path(path).absolute() == folder):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return ask(path, *rest, **more)

        return asked

    monkeypatch.setattr(os, "stat", refusing(os.stat, itself=False))
    monkeypatch.setattr(io, "open", refusing(io.open, itself=False))
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), itself=True))
    return folder
