from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import stats

from mobench import accuracy, classifier
from mobench.classifier import Options
from mobench.data import LabelledImages
from mobench.errors import BadInputError, SessionError
from mobench.records import IMAGENET_MEAN, IMAGENET_STD, Artifact, Preprocess, Ready

SIZE = 8
Answer = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _ready(
    shape: tuple[int, ...] = (1, SIZE, SIZE, 3), dtype: str = "float32", out: tuple[int, ...] = (1, 1000), **quant: Any
) -> Ready:
    return Ready(
        init_ns=1, first_ns=1, rss_before_mb=1.0, peak_rss_mb=1.0, asked="fake", got="fake", nodes_delegated=None,
        nodes_total=None, threads=1, cores=(), versions={},
        inputs=({"name": "in", "shape": list(shape), "dtype": dtype, **quant},),
        outputs=({"name": "out", "shape": list(out), "dtype": "float32"},),
    )  # fmt: skip


def _artifact(preprocess: Preprocess | None = None, manifest: Mapping[str, Any] | None = None) -> Artifact:
    return Artifact(
        path=Path("some/net.onnx"), sha256="ab" * 32, size_bytes=1, format="onnx", name="net", precision="int8",
        preprocess=preprocess, manifest=manifest or {},
    )  # fmt: skip


@dataclass
class FakeSession:
    """Answers each sample by ``answer(sample)``; dies at request number ``dies_at``."""

    answer: Answer
    ready: Ready = field(default_factory=_ready)
    dies_at: int | None = None
    requests: int = 0
    closed: bool = False

    def predict(self, inputs: npt.NDArray[Any], *, deadline_s: float = 60.0) -> npt.NDArray[Any]:
        """Answer from the script."""
        assert inputs.dtype == self.ready.inputs[0]["dtype"]
        assert list(inputs.shape[1:]) == self.ready.inputs[0]["shape"][1:]
        self.requests += 1
        if self.requests == self.dies_at:
            raise SessionError("net.onnx", "its process ended (killed by SIGKILL)", "the system may be out of memory")
        return np.stack([self.answer(sample).reshape(self.ready.outputs[0]["shape"][1:]) for sample in inputs])

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def _reads_red(classes: int = 1000, offset: int = 0) -> Answer:
    """A classifier whose class is the red value of the (float, raw) pixels; the next ones come in order behind it."""

    def answer(sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
        nearness: npt.NDArray[Any] = -np.abs(np.arange(classes, dtype=np.float32) - (sample[0, 0, 0] + offset))
        return nearness

    return answer


def _images(folder: Path, reds_and_labels: list[tuple[int, int]]) -> LabelledImages:
    labelled = []
    for number, (red, label) in enumerate(reds_and_labels):
        path = folder / f"{number:03}.png"
        Image.new("RGB", (SIZE, SIZE), (red, 0, 0)).save(path)
        labelled.append((path, label))
    return labelled


def _evaluate(images: LabelledImages, session: FakeSession, **options: Any) -> accuracy.Evaluation:
    given = {"options": Options(raw_pixels=True), "jobs": 1, **options}
    return accuracy.evaluate(
        given.pop("artifact", _artifact()),
        images,
        runtime="ort",
        open_session=lambda a, t: session,
        data="set",
        **given,
    )


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (442, 500), (0, 1), (1, 1)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    low, high = accuracy.wilson(hits, n)
    assert (low, high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert 0 <= low <= 100 * hits / n <= high <= 100


def test_rank_counts_better_classes_and_breaks_ties_by_index() -> None:
    scores = np.array([3, 7, 7, 0, 9], dtype=np.uint8)
    assert [accuracy.rank(scores, label) for label in range(5)] == [3, 1, 2, 4, 0]
    assert accuracy.rank(np.zeros(5), 0) == 0
    assert accuracy.rank(np.zeros(5), 4) == 4


def test_top1_and_top5_are_counted_exactly(tmp_path: Path) -> None:
    # red 100: the scores rank classes 100, 99, 101, 98, 102, 97, ...
    labels = [100, 100, 99, 101, 102, 97, 500]
    evaluation = _evaluate(_images(tmp_path, [(100, label) for label in labels]), FakeSession(_reads_red()))
    measured = evaluation.accuracy
    assert measured.n == 7
    assert measured.top1 == pytest.approx(100 * 2 / 7)
    assert measured.top5 == pytest.approx(100 * 5 / 7)
    assert measured.top1_ci == accuracy.wilson(2, 7)
    assert measured.top5_ci == accuracy.wilson(5, 7)
    assert (measured.name, measured.precision, measured.runtime, measured.sha256) == ("net", "int8", "ort", "ab" * 32)


def test_background_class_is_dropped(tmp_path: Path) -> None:
    session = FakeSession(_reads_red(1001, offset=1), ready=_ready(out=(1, 1001)))
    evaluation = _evaluate(_images(tmp_path, [(red, red) for red in range(0, 250, 10)]), session)
    assert evaluation.accuracy.top1 == 100
    assert any("background" in text for text in evaluation.assumed)


def test_a_confident_background_class_does_not_count_as_a_wrong_class(tmp_path: Path) -> None:
    def answer(sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
        scores = _reads_red(1001, offset=1)(sample)
        scores[0] = 1000
        return scores

    session = FakeSession(answer, ready=_ready(out=(1, 1001)))
    assert _evaluate(_images(tmp_path, [(7, 7)]), session).accuracy.top1 == 100


def test_classes_offset_overrides_the_guess(tmp_path: Path) -> None:
    session = FakeSession(_reads_red(1001), ready=_ready(out=(1, 1001)))
    options = Options(raw_pixels=True, classes_offset=0)
    assert _evaluate(_images(tmp_path, [(7, 7), (9, 9)]), session, options=options).accuracy.top1 == 100


@pytest.mark.parametrize("jobs", [1, 3])
def test_parallel_jobs_see_every_image_once_and_report_progress(tmp_path: Path, jobs: int) -> None:
    images = _images(tmp_path, [(number, number if number % 2 else 900) for number in range(60)])
    sessions: list[FakeSession] = []
    done: list[int] = []
    lock = threading.Lock()

    def opened(_artifact: Artifact, _target: Any) -> FakeSession:
        with lock:
            sessions.append(FakeSession(_reads_red()))
        return sessions[-1]

    evaluation = accuracy.evaluate(
        _artifact(), images, runtime="ort", open_session=opened, data="set", jobs=jobs,
        options=Options(raw_pixels=True), progress=done.append,
    )  # fmt: skip
    assert evaluation.accuracy.top1 == 50
    assert evaluation.accuracy.n == sum(done) == 60
    assert len(sessions) == jobs
    assert all(session.closed for session in sessions)


def test_a_dying_session_fails_the_whole_file_and_closes_all(tmp_path: Path) -> None:
    images = _images(tmp_path, [(1, 1)] * 40)
    session = FakeSession(_reads_red(), dies_at=2)
    with pytest.raises(SessionError, match=r"net\.onnx.*SIGKILL"):
        _evaluate(images, session)
    assert session.closed
    assert session.requests == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_an_error_and_not_class_0(tmp_path: Path, bad: float) -> None:
    def answer(sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
        scores = _reads_red()(sample)
        scores[3] = bad
        return scores

    with pytest.raises(SessionError, match="NaN or infinity"):
        _evaluate(_images(tmp_path, [(0, 0)]), FakeSession(answer))


def test_minus_infinity_is_a_fair_score(tmp_path: Path) -> None:
    def answer(sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
        scores = _reads_red()(sample)
        scores[10:] = -np.inf
        return scores

    assert _evaluate(_images(tmp_path, [(4, 4)]), FakeSession(answer)).accuracy.top1 == 100


def test_unreadable_images_are_left_out_and_named(tmp_path: Path) -> None:
    images = _images(tmp_path, [(5, 5), (6, 6), (7, 900)])
    images[1][0].write_bytes(b"broken")
    evaluation = _evaluate(images, FakeSession(_reads_red()))
    assert evaluation.accuracy.n == 2
    assert evaluation.accuracy.top1 == 50
    assert len(evaluation.unreadable) == 1
    assert "001.png" in evaluation.unreadable[0]
    assert evaluation.accuracy.data == f"set#{accuracy.image_set_id([images[0], images[2]])}"


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"broken")
    with pytest.raises(BadInputError, match="none of its 1 images"):
        _evaluate([(tmp_path / "x.png", 0)], FakeSession(_reads_red()))
    with pytest.raises(BadInputError, match="no image is left"):
        _evaluate([], FakeSession(_reads_red()))


def test_image_set_id_tells_sets_and_labels_apart_but_not_order() -> None:
    a, b = (Path("d/a.png"), 1), (Path("d/b.png"), 2)
    assert accuracy.image_set_id([a, b]) == accuracy.image_set_id([b, a])
    assert accuracy.image_set_id([a]) != accuracy.image_set_id([a, b])
    assert accuracy.image_set_id([a]) != accuracy.image_set_id([(a[0], 3)])


def test_guessing_is_doubted(tmp_path: Path) -> None:
    images = _images(tmp_path, [(100, 900)] * 20)
    assert "no better than guessing" in _evaluate(images, FakeSession(_reads_red())).doubts[0]
    images = _images(tmp_path, [(100, 100)] * 20)
    assert _evaluate(images, FakeSession(_reads_red())).doubts == ()


def test_a_label_the_output_has_no_class_for_is_an_error(tmp_path: Path) -> None:
    session = FakeSession(_reads_red(10), ready=_ready(out=(1, 10)))
    assert _evaluate(_images(tmp_path, [(3, 3)]), session).accuracy.top1 == 100
    with pytest.raises(BadInputError, match="class 10, its output holds 10"):
        _evaluate(_images(tmp_path, [(3, 10)]), session)


RED_AND_BLUE = Image.new("RGB", (SIZE, SIZE), (255, 0, 128))
OURS = Preprocess(size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=1.0)


def _sample(ready: Ready, options: Options | None = None, preprocess: Preprocess | None = None) -> npt.NDArray[Any]:
    return classifier.reader(_artifact(preprocess), ready, options or Options()).sample(RED_AND_BLUE)


def test_nhwc_and_nchw_are_found_from_the_shape() -> None:
    nhwc = _sample(_ready(), preprocess=OURS)
    nchw = _sample(_ready((1, 3, SIZE, SIZE)), preprocess=OURS)
    assert nhwc.shape == (SIZE, SIZE, 3)
    assert nchw.shape == (3, SIZE, SIZE)
    assert nchw.flags.c_contiguous
    np.testing.assert_array_equal(nchw, nhwc.transpose(2, 0, 1))
    np.testing.assert_allclose(nhwc[0, 0], [1, -1, 128 / 127.5 - 1], atol=1e-6)


def test_layout_option_settles_an_input_of_three_by_three() -> None:
    for layout, shape in (("NHWC", (3, 3, 3)), ("NCHW", (3, 3, 3))):
        reader = classifier.reader(_artifact(), _ready((1, 3, 3, 3)), Options(layout=layout))  # type: ignore[arg-type]
        assert reader.layout == layout
        assert reader.sample(RED_AND_BLUE).shape == shape
    with pytest.raises(BadInputError, match="not NCHW"):
        classifier.reader(_artifact(), _ready(), Options(layout="NCHW"))


@pytest.mark.parametrize(
    ("dtype", "quant", "expected"),
    [
        ("uint8", {"scale": 1 / 127, "zero_point": 127}, [254, 0, 127]),
        ("int8", {"scale": 1 / 100, "zero_point": 40}, [127, -60, 40]),
        ("uint8", {"scale": 1 / 100, "zero_point": 100}, [200, 0, 100]),
        ("float16", {}, [1, -1, 128 / 127.5 - 1]),
    ],
)
def test_our_quantized_inputs_use_scale_and_zero_point(
    dtype: str, quant: dict[str, Any], expected: list[float]
) -> None:
    sample = _sample(_ready(dtype=dtype, **quant), preprocess=OURS)
    assert sample.dtype == dtype
    np.testing.assert_allclose(sample[0, 0].astype(float), expected, atol=1e-3)


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", [255, 0, 128]), ("int8", [127, -128, 0])])
def test_a_foreign_quantized_input_gets_raw_pixels_and_says_so(dtype: str, expected: list[int]) -> None:
    reader = classifier.reader(_artifact(), _ready(dtype=dtype, scale=0.5, zero_point=9), Options())
    assert reader.sample(RED_AND_BLUE)[0, 0].tolist() == expected
    assert any("raw pixels" in text for text in reader.assumed)
    reader = classifier.reader(_artifact(), _ready(dtype="uint8", scale=0.5, zero_point=9), Options(mean=(0, 0, 0)))
    assert reader.sample(RED_AND_BLUE)[0, 0].tolist() == [18, 9, 13]  # 9 + rint(1 / 0.229 / 0.5), ...


def test_a_foreign_float_input_gets_imagenet_statistics_and_says_so() -> None:
    reader = classifier.reader(_artifact(), _ready(), Options())
    expected = (np.array([1, 0, 128 / 255]) - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(reader.sample(RED_AND_BLUE)[0, 0], expected, atol=1e-6)
    assert [text for text in reader.assumed if "mean" in text or "std" in text] == [
        "mean 0.485,0.456,0.406 (ImageNet's)",
        "std 0.229,0.224,0.225 (ImageNet's)",
    ]


def test_a_foreign_float_input_with_a_background_class_gets_tensorflows_range() -> None:
    reader = classifier.reader(_artifact(), _ready(out=(1, 1001)), Options())
    np.testing.assert_allclose(reader.sample(RED_AND_BLUE)[0, 0], [1, -1, 128 / 127.5 - 1], atol=1e-6)


def test_what_is_given_is_not_said_to_be_assumed() -> None:
    options = Options(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=1.0, interpolation="bicubic", bgr=True, classes_offset=0
    )
    reader = classifier.reader(_artifact(), _ready(), options)
    assert reader.assumed == ()
    assert (reader.preprocess.crop, reader.preprocess.interpolation) == (1.0, "bicubic")
    np.testing.assert_allclose(reader.sample(RED_AND_BLUE)[0, 0], [128 / 127.5 - 1, -1, 1], atol=1e-6)


def test_our_files_assume_nothing_and_options_override_the_manifest() -> None:
    assert classifier.reader(_artifact(OURS), _ready(), Options()).assumed == ()
    np.testing.assert_allclose(_sample(_ready(), Options(mean=(0, 0, 0)), OURS)[0, 0], [2, 0, 256 / 255], atol=1e-6)
    assert _sample(_ready(), Options(raw_pixels=True), OURS)[0, 0].tolist() == [255, 0, 128]


@pytest.mark.parametrize(
    ("ready", "why"),
    [
        (_ready((1, 8, 8, 1)), "not \\[1, size, size, 3\\]"),
        (_ready((1, 192)), "not \\[1, size, size, 3\\]"),
        (_ready((4, 8, 8, 3)), "fixed batch of 4"),
        (_ready((1, 8, 16, 3)), "8 x 16 is not square"),
        (_ready(dtype="int64"), "not an image"),
        (_ready(dtype="uint8"), "no scale"),
        (_ready(out=(1, 513, 513)), "not a classifier's"),
        (_ready(out=(1, 1)), "not a classifier's"),
        (_ready(out=(1, 8, 8, 1000)), "not a classifier's"),
        (_ready(out=()), "not a classifier's"),
    ],
)
def test_a_file_that_is_no_classifier_is_one_line(ready: Ready, why: str) -> None:
    options = Options(mean=(0, 0, 0)) if ready.inputs[0]["dtype"] == "uint8" else Options()
    with pytest.raises(BadInputError, match=why) as caught:
        classifier.reader(_artifact(), ready, options)
    assert str(caught.value).startswith("net.onnx")


def test_two_inputs_are_no_classifier() -> None:
    ready = _ready()
    with pytest.raises(BadInputError, match="2 inputs"):
        classifier.reader(_artifact(), replace(ready, inputs=ready.inputs * 2), Options())


@pytest.mark.parametrize("out", [(1, 1000), (1, 1, 1, 1000), (1, 1000, 1, 1)])
def test_singleton_axes_of_the_output_do_not_matter(tmp_path: Path, out: tuple[int, ...]) -> None:
    session = FakeSession(_reads_red(), ready=_ready(out=out))
    assert _evaluate(_images(tmp_path, [(5, 5)]), session).accuracy.top1 == 100


@pytest.mark.parametrize(
    "wrong", [{"raw_pixels": True, "mean": (0, 0, 0)}, {"std": (1, 0, 1)}, {"crop": 0.0}, {"crop": 1.5}]
)
def test_options_that_contradict_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        Options(**wrong)


def test_classes_offset_beyond_the_output_is_refused() -> None:
    with pytest.raises(BadInputError, match="--classes-offset 1000"):
        classifier.reader(_artifact(), _ready(), Options(classes_offset=1000))
