"""The plugin as napari finds it: its manifest, and what it imports before it is used."""

import subprocess
import sys

import pytest

pytest.importorskip("npe2", reason="napari is not installed")


def test_the_manifest_is_valid_and_all_that_it_names_is_there():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("srpipe")
    manifest.validate_imports()
    assert manifest.name == "srpipe"
    assert {item.key for item in manifest.contributions.sample_data} == {"cells", "photo", "scene"}


def test_nothing_heavy_is_imported_before_it_is_used():
    script = """
import sys
import napari_sr, napari_sr.reader, napari_sr.writer, napari_sr.sample, napari_sr.menu
import napari_sr.world, napari_sr.region
heavy = {"torch", "dask", "distributed", "zarr", "av", "napari", "qtpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_form_itself_needs_no_torch():
    pytest.importorskip("napari", reason="napari is not installed")
    script = """
import sys
import napari_sr.widget
heavy = {"torch", "distributed", "zarr", "av"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_srpipe_knows_nothing_of_napari():
    script = "import sys, srpipe.cli, srpipe.jobs; sys.exit('napari' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
