import pytest

from srpipe.io.beside import sidecars
from srpipe.jobs.journal import identity

STATISTICS = "<PAMDataset><Metadata><MDI>9</MDI></Metadata></PAMDataset>"
PLACE = "<PAMDataset><GeoTransform>1, 2, 0, 3, 0, 4</GeoTransform></PAMDataset>"
GAPS = "<PAMDataset><PAMRasterBand><NoDataValue>4</NoDataValue></PAMRasterBand></PAMDataset>"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        *(("a.tif", f"a.{ending}") for ending in ("tfw", "tifw", "wld", "TFW", "tif.aux.xml")),
        *(("a.tif", f"a{ending}") for ending in ("_RPC.TXT", "_rpc.txt", ".RPB", ".tif.msk")),
        *(("a.b.tiff", "a.b.tfw"), ("a.tiff", "a.tiffw"), ("A.TIF", "A.TFW"), ("a", "a.wld")),
    ],
)
@pytest.mark.parametrize("said", [PLACE, GAPS])
def test_a_file_that_says_what_another_holds_is_found_and_part_of_what_it_is(
    tmp_path, name, beside, said
):
    path, other = tmp_path / name, tmp_path / beside
    path.write_bytes(b"II*")
    alone = identity(path)
    assert not any(sidecars(path))
    other.write_text(said)
    assert list(sidecars(path)) == [other]
    together = identity(path)
    assert together == {**alone, "beside": {beside: together["beside"][beside]}}
    other.write_text(said.replace("4", "5"))
    assert identity(path) != together


@pytest.mark.parametrize("beside", ["a.tif.aux.xml", "b.tfw", "a.jgw", "a.xml"])
def test_files_that_say_something_else_are_left_alone(tmp_path, beside):
    (tmp_path / "a.tif").write_bytes(b"II*")
    (tmp_path / beside).write_text(STATISTICS)
    assert not any(sidecars(tmp_path / "a.tif"))
