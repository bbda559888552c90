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
