from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobench import calibration_images, data
from mobench.errors import BadInputError
from mobench.records import Preprocess

RAW = Preprocess(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop=1.0)


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _save(path: Path, colour: tuple[int, int, int] = (10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), colour).save(path)
    return path


def test_preprocess_normalises_each_channel_of_an_rgb_image() -> None:
    p = Preprocess(size=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    result = data.preprocess(Image.new("RGB", (20, 30), (255, 0, 51)), p)
    assert result.shape == (8, 8, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[3, 4], [(1 - 0.1) / 0.5, -0.2 / 0.25, (0.2 - 0.3) / 0.125], rtol=1e-6)


def test_crop_takes_the_middle_and_rounds_its_corner_down() -> None:
    image = _noise(13, 8)
    expected = np.asarray(image)[:, 2:10]  # (13 - 8) / 2 = 2.5
    np.testing.assert_array_equal(data.crop_pixels(image, RAW), expected)


@pytest.mark.parametrize(("width", "height"), [(256, 300), (300, 256), (256, 256)])
def test_short_side_becomes_size_over_crop(width: int, height: int) -> None:
    image = _noise(width, height)
    p = Preprocess(size=112, crop=0.875)
    scaled = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    left, top = (scaled.width - 112) // 2, (scaled.height - 112) // 2
    np.testing.assert_array_equal(data.crop_pixels(image, p), np.asarray(scaled)[top : top + 112, left : left + 112])


def test_interpolation_is_obeyed() -> None:
    image = _noise(40, 40)
    bilinear, bicubic = (
        data.crop_pixels(image, Preprocess(size=14, crop=0.875, interpolation=how)) for how in ("bilinear", "bicubic")
    )
    assert (bilinear != bicubic).any()


@pytest.mark.parametrize("size", [(3, 50), (50, 3), (1, 1)])
def test_images_smaller_than_the_input_are_enlarged(size: tuple[int, int]) -> None:
    assert data.preprocess(Image.new("RGB", size), Preprocess(size=32)).shape == (32, 32, 3)


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    upright = _noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    shown = data.crop_pixels(data.open_image(tmp_path / "turned.png"), RAW)
    np.testing.assert_array_equal(shown, np.asarray(upright))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (8, 8), 77), (77, 77, 77)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("RGBA", (8, 8), (200, 0, 0, 255)), (200, 0, 0)),
        (Image.new("RGBA", (8, 8), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (8, 8), (9, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)), (128, 128, 128)),
    ],
    ids=["grey", "bilevel", "cmyk", "opaque", "transparent", "grey transparent", "16-bit grey"],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert tuple(data.crop_pixels(image, RAW)[4, 4]) == expected


def test_load_images_stacks_in_the_given_order(tmp_path: Path) -> None:
    paths = [_save(tmp_path / "b.png", (255, 0, 0)), _save(tmp_path / "a.png", (0, 255, 0))]
    loaded = data.load_images(paths, RAW)
    assert loaded.shape == (2, 8, 8, 3)
    assert loaded[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert data.load_images([], RAW).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BadInputError, match=r"bad\.png") as caught:
        data.open_image(tmp_path / "bad.png")
    assert "\n" not in str(caught.value)


def test_a_truncated_jpeg_is_unreadable(tmp_path: Path) -> None:
    _noise(64, 64).save(tmp_path / "half.jpg")
    whole = (tmp_path / "half.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match="truncated"):
        data.open_image(tmp_path / "half.jpg")


def test_class_folders_are_mapped_by_wnid_and_not_by_position(tmp_path: Path) -> None:
    _save(tmp_path / "n15075141" / "x.png")  # the last class, toilet tissue
    _save(tmp_path / "n01443537" / "deep" / "y.JPEG")  # class 1, goldfish
    labelled = data.labelled_images(tmp_path)
    assert labelled == [(tmp_path / "n01443537/deep/y.JPEG", 1), (tmp_path / "n15075141/x.png", 999)]


def test_class_folders_may_be_indices(tmp_path: Path) -> None:
    for name in ("0", "007", "999"):
        _save(tmp_path / name / "x.png")
    assert [index for _, index in data.labelled_images(tmp_path)] == [0, 7, 999]


@pytest.mark.parametrize("name", ["1000", "n00000001", "cats"])
def test_an_unknown_class_folder_is_named(tmp_path: Path, name: str) -> None:
    _save(tmp_path / name / "x.png")
    with pytest.raises(BadInputError, match=name):
        data.labelled_images(tmp_path)


def test_a_folder_without_images_and_one_without_class_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no image files"):
        data.labelled_images(tmp_path)
    with pytest.raises(BadInputError, match="no such folder"):
        data.labelled_images(tmp_path / "nowhere")
    _save(tmp_path / "x.png")
    with pytest.raises(BadInputError, match="--labels"):
        data.labelled_images(tmp_path)
    with pytest.raises(BadInputError, match="not a folder"):
        data.labelled_images(tmp_path / "x.png")


def test_a_link_back_to_a_parent_is_followed_once(tmp_path: Path) -> None:
    _save(tmp_path / "1" / "x.png")
    (tmp_path / "1" / "loop").symlink_to(tmp_path / "1", target_is_directory=True)
    assert len(data.labelled_images(tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a.png 1\nmy cat.png n15075141\n",
        "a.png,1\r\nmy cat.png,n15075141\r\n",
        "a.png\t1\n\n# a comment\nmy cat.png\tn15075141",
        '\ufefffilename,label\n"a.png",1\n"my cat.png",n15075141\n',
    ],
    ids=["space", "comma", "tab", "heading"],
)
def test_labels_file_in_each_spelling(tmp_path: Path, text: str) -> None:
    first, second = _save(tmp_path / "a.png"), _save(tmp_path / "my cat.png")
    labels = tmp_path / "labels.txt"
    labels.write_text(text, encoding="utf-8", newline="")
    assert data.labelled_images(tmp_path, labels=labels) == [(first, 1), (second, 999)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.png 1\nb.png 1", r"labels\.txt:2: b\.png is not in"),
        ("a.png 1000", "1000 is not in"),
        ("a.png dog", "'dog' is neither"),
        ("a.png", "is not 'filename label'"),
        ("a.png 1\na.png 2", "has class 2 here and 1"),
        ("", "names no image"),
    ],
)
def test_a_bad_line_of_a_labels_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    _save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(BadInputError, match=why):
        data.labelled_images(tmp_path, labels=tmp_path / "labels.txt")


def test_a_missing_or_binary_labels_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"labels file .*nope"):
        data.labelled_images(tmp_path, labels=tmp_path / "nope")
    (tmp_path / "blob").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadInputError, match="not UTF-8"):
        data.labelled_images(tmp_path, labels=tmp_path / "blob")


def test_class_table_holds_a_thousand_classes() -> None:
    table = data.class_by_wnid()
    assert sorted(table.values()) == list(range(1000))
    assert table["n01440764"] == 0


def _folder(tmp_path: Path, n: int) -> Path:
    for i in range(n):
        _save(tmp_path / "photos" / f"{i % 3}" / f"{i}.png", (i, 2 * i, 3 * i))
    return tmp_path / "photos"


def test_calibration_is_a_seeded_choice_with_a_hash(tmp_path: Path) -> None:
    folder = _folder(tmp_path, 20)
    one, again, other = (data.calibration(folder, n=5, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one.n == 5
    assert one.name == "photos"
    assert one.paths != other.paths
    assert one.sha256 != other.sha256
    assert one.images(RAW).shape == (5, 8, 8, 3)
    said = one.describe()
    assert said["images"] == [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in one.paths]
    assert {key: said[key] for key in ("name", "n", "seed")} == {"name": "photos", "n": 5, "seed": 3}


def test_calibration_hash_changes_with_an_image(tmp_path: Path) -> None:
    folder = _folder(tmp_path, 3)
    before = data.calibration(folder, n=3).sha256
    _save(folder / "0" / "0.png", (99, 99, 99))
    assert data.calibration(folder, n=3).sha256 != before


def test_unreadable_calibration_images_are_named_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path, 6)
    first = data.calibration(folder, n=2).paths[0]
    first.write_bytes(b"broken")
    chosen = data.calibration(folder, n=2)
    assert chosen.n == 2
    assert first not in chosen.paths
    assert str(first) in capsys.readouterr().err


def test_calibration_with_fewer_images_than_asked_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data.calibration(_folder(tmp_path, 3), n=10).n == 3
    assert "3 of the 10" in capsys.readouterr().err


def test_calibration_without_a_readable_image_fails(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"broken")
    with pytest.raises(BadInputError, match="none of its 1 images"):
        data.calibration(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="no image files"):
        data.calibration(tmp_path / "empty")
    with pytest.raises(BadInputError, match="at least one"):
        data.calibration(None, n=0)


def test_embedded_set_needs_no_folder_and_is_described() -> None:
    embedded = data.calibration(None, n=3)
    assert embedded.describe() == {"name": "embedded-v1", "sha256": embedded.sha256, "n": 3, "seed": 0}
    images = embedded.images(Preprocess(size=32))
    assert images.shape == (3, 32, 32, 3)
    assert images.dtype == np.float32
    assert data.calibration(None, n=3, seed=1).sha256 != embedded.sha256
    assert data.calibration(None, n=2, seed=-1).n == 2


def test_embedded_images_are_the_same_on_every_platform() -> None:
    """The name embedded-v1 stands for these bytes: whoever changes the procedure must change the name."""
    digest = hashlib.sha256(b"".join(calibration_images.image(i).tobytes() for i in (0, 1, 99)))
    assert digest.hexdigest()[:16] == "c0f5d34bbed3e507"


def test_embedded_images_are_no_wilder_than_photographs() -> None:
    """Contrast, colourfulness and steepness as of ImageNet photographs (measured on 50: 0.21, 0.15, 0.04)."""
    images = np.stack([calibration_images.image(i) for i in range(8)]).astype(float) / 255
    light = images.mean(axis=3)
    assert 0.1 < light.std(axis=(1, 2)).mean() < 0.3
    assert 0.05 < (images.max(axis=3) - images.min(axis=3)).mean() < 0.3
    assert 0.01 < np.abs(np.diff(light, axis=2)).mean() < 0.06
