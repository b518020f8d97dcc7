"""Pictures that a user names: which are meant, which way up, how large, and what a byte becomes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.errors import MuseError
from muse_core.pictures import find_pictures, picture_png, read_picture


def save(path: Path, size: tuple[int, int] = (4, 2), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (255, 0, 0)).save(path, **options)  # type: ignore[arg-type]
    return path


def test_files_folders_and_patterns_are_each_read_once_in_the_order_named(tmp_path: Path) -> None:
    b, a, c = (save(tmp_path / name) for name in ("z/b.png", "z/a.JPG", "c.webp"))
    (tmp_path / "z" / "notes.txt").write_text("not a picture")
    odd = tmp_path / "named"
    odd.write_bytes(b"")
    found = find_pictures([str(c), str(tmp_path / "z"), str(tmp_path / "**" / "*.png"), str(odd)])
    assert found == [c, a, b, odd]
    with pytest.raises(MuseError, match="no picture at .*nothing"):
        find_pictures([str(tmp_path / "nothing")])


def test_a_picture_is_turned_the_way_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.jpg", (40, 20), exif=exif)
    assert read_picture(path).shape == (3, 40, 20)


def test_the_shorter_side_is_scaled_and_small_pictures_are_left_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", (300, 200))
    assert read_picture(path, 100).shape == (3, 100, 150)
    assert read_picture(path, 400).shape == (3, 200, 300)
    assert read_picture(path, 400, only_shrink=False).shape == (3, 400, 600)
    assert read_picture(path).shape == (3, 200, 300)


def test_bytes_survive_reading_and_writing(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    picture = read_picture(tmp_path / "p.png")
    assert picture.dtype == np.float32
    assert (picture.min(), picture.max()) == (0.0, 1.0)
    (tmp_path / "q.png").write_bytes(picture_png(picture))
    with Image.open(tmp_path / "q.png") as again:
        assert np.array_equal(np.asarray(again), pixels)


def test_values_outside_the_range_are_clipped_and_not_wrapped(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(picture_png(np.stack([np.full((2, 2), v, np.float32) for v in (-0.5, 0.5, 1.5)])))
    with Image.open(tmp_path / "p.png") as written:
        assert written.getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n cut short"])
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(MuseError, match=r"bad\.png cannot be read as a picture"):
        read_picture(path)
