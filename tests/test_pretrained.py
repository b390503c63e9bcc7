"""Published checkpoints: downloaded once to the cache, checked, and refused in one line when anything is wrong."""

import errno
import hashlib
import io
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from weight_files import refusal, state, write

from mobench import downloads, zoo
from mobench.records import IMAGENET_MEAN, Preprocess
from mobench.zoo import checkpoint, pretrained, weights
from mobench.zoo import published as published_table
from mobench.zoo.keys import LAYOUTS, layouts
from mobench.zoo.published import CHECKPOINTS


@pytest.fixture
def published(monkeypatch, server, tmp_path):
    """A stand-in for the V1 checkpoint on the loopback server; returns its bytes."""
    spec = zoo.get("mobilenet_v1")
    body = Path(write(tmp_path / "published.safetensors", state(spec, LAYOUTS["mobilenet_v1"][0]))).read_bytes()
    entry = replace(
        pretrained.CHECKPOINTS["mobilenet_v1"][0],
        url=f"http://127.0.0.1:{server.server_port}/w",
        sha256=hashlib.sha256(body).hexdigest(),
    )
    monkeypatch.setattr(pretrained, "CHECKPOINTS", {"mobilenet_v1": (entry,)})
    server.answers["/w"] = (200, len(body), body)
    return body


V1 = zoo.get("mobilenet_v1")


def test_a_published_checkpoint_is_downloaded_once(server, published, tmp_path):
    said = []
    resolved = weights.resolve(V1, "pretrained", cache_dir=tmp_path / "cache", say=said.append)
    weights.resolve(V1, "pretrained", cache_dir=tmp_path / "cache", say=said.append)
    assert server.asked == ["/w"]
    assert len(said) == 1 and "downloading" in said[0]
    assert resolved.path.read_bytes() == published
    assert [path.name for path in resolved.path.parent.iterdir()] == [resolved.path.name], "no temporary file stays"
    assert resolved.origin["sha256"] == hashlib.sha256(published).hexdigest()
    assert resolved.origin["published_top1"] == 75.382
    assert resolved.origin["kind"] == "pretrained" and resolved.origin["source"].endswith("/w")
    assert resolved.preprocess.mean == (0.5, 0.5, 0.5)
    resolved.build()


def test_a_checkpoints_accuracy_belongs_to_its_own_input_size(published, tmp_path):
    smaller = zoo.get("mobilenet_v1", input_size=128)
    assert weights.resolve(smaller, "pretrained", cache_dir=tmp_path).origin["published_top1"] is None


def test_a_cached_file_that_was_damaged_is_fetched_again(server, published, tmp_path):
    path = weights.resolve(V1, "pretrained", cache_dir=tmp_path).path
    path.write_bytes(published[:100])
    assert weights.resolve(V1, "pretrained", cache_dir=tmp_path).path.read_bytes() == published
    assert len(server.asked) == 2


def check_refused(tmp_path, *parts):
    message = refusal(V1, "pretrained", cache_dir=tmp_path / "cache")
    for part in (*parts, "--weights random", "--weights FILE"):
        assert part in message
    assert list((tmp_path / "cache" / "weights").iterdir()) == [], "something was left behind"


def test_a_wrong_checksum_removes_the_file_and_says_so(server, published, tmp_path):
    server.answers["/w"] = (200, len(published), published[:-1] + b"x")
    check_refused(tmp_path, "was removed", "sha256")


def test_a_download_that_breaks_off_is_removed(server, published, tmp_path):
    server.answers["/w"] = (200, len(published), published[:5000])
    check_refused(tmp_path, "was removed", f"broke off after 5000 of {len(published)} bytes")


def test_a_download_without_length_is_judged_by_its_checksum(server, published, tmp_path):
    server.answers["/w"] = (200, None, published[:5000])
    check_refused(tmp_path, "sha256")
    for length in (None, "abc"):
        server.answers["/w"] = (200, length, published)
        weights.resolve(V1, "pretrained", cache_dir=tmp_path / "cache").path.unlink()


def test_a_missing_file_on_the_server_is_one_line(server, published, tmp_path):
    server.answers["/w"] = (404, 0, b"")
    check_refused(tmp_path, "the server answered 404")


def test_offline_is_one_line_that_offers_the_other_choices(published, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    entry = replace(pretrained.CHECKPOINTS["mobilenet_v1"][0], url=f"http://127.0.0.1:{port}/w")
    monkeypatch.setattr(pretrained, "CHECKPOINTS", {"mobilenet_v1": (entry,)})
    check_refused(tmp_path, f"cannot download http://127.0.0.1:{port}/w", "refused")


def test_a_server_that_talks_nonsense_is_one_line(published, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/w"
        entry = replace(pretrained.CHECKPOINTS["mobilenet_v1"][0], url=url)
        monkeypatch.setattr(pretrained, "CHECKPOINTS", {"mobilenet_v1": (entry,)})
        check_refused(tmp_path, "cannot download")
        thread.join()


def test_a_cache_that_cannot_be_written_is_one_line(published, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert "MOBENCH_CACHE" in refusal(V1, "pretrained", cache_dir=tmp_path / "cache")


def test_a_disk_that_fills_up_is_one_line_and_nothing_stays(published, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fdopen(handle, mode):
        os.close(handle)
        return Full()

    monkeypatch.setattr(downloads.os, "fdopen", fdopen)
    message = refusal(V1, "pretrained", cache_dir=tmp_path / "cache")
    assert "No space left" in message and "MOBENCH_CACHE" in message
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mobilenet_v2", {"width": 0.75}, "mobilenet_v2_0.75_224"),
        ("efficientnet_b0", {"depth": 4}, "efficientnet_b0_1.0_224_d4.0"),
        ("resnet50", {"padding": "same"}, "resnet50 for same padding"),
        ("resnet50_stride1x1", {}, "resnet50_stride1x1 is known"),
        ("alexnet", {"input_size": 128}, "alexnet_1.0_128"),  # its weights are for one size
        ("moga_a", {}, "fill in the form"),
        ("moga_a", {"input_size": 192}, "fill in the form"),
        ("moga_a_figure", {}, "of moga_a, its authors send"),
        ("se_resnet50_stride1x1", {}, "export it as timm:legacy_seresnet50"),
    ],
)
def test_what_nobody_published_is_refused(name, options, says):
    assert says in refusal(zoo.get(name, **options), "pretrained")


def test_an_unknown_tag_lists_the_known_ones():
    assert "IMAGENET1K_V2 or IMAGENET1K_V1 or ra_in1k" in refusal(zoo.get("mobilenet_v2"), "pretrained:V9")


@pytest.mark.parametrize(
    ("name", "options", "tag", "file"),
    [
        ("mobilenet_v2", {"width": 1.4}, None, "mobilenetv2_140.ra_in1k.safetensors"),
        ("mobilenet_v2", {"input_size": 96}, None, "mobilenet_v2-7ebf99e0.pth"),
        ("mnasnet_b1_0.5_128", {}, None, "mnasnet0.5_top1_67.823-3ffadce67e.pth"),
        ("mobilenet_v3_large_spelled", {}, None, "mobilenet_v3_large-5c1a4163.pth"),  # the same function
        ("efficientnet_b0", {"padding": "same"}, None, "tf_efficientnet_b0-0af12548.pth"),
        ("efficientnet_b0", {}, "tf_ns_jft_in1k", "tf_efficientnet_b0_ns-c0e6a31c.pth"),
        ("efficientnet_b2", {}, None, "efficientnet_b2_rwightman-c35c1473.pth"),
        ("mobilenet_v3_large", {}, "miil_in21k_ft_in1k", "mobilenetv3_large_100_1k_miil_78_0-66471c13.pth"),
        ("mnasnet_a1", {}, None, "mnasnet_a1-d9418771.pth"),
    ],
)
def test_a_checkpoint_is_found_by_width_padding_and_tag(name, options, tag, file):
    assert pretrained.find(zoo.get(name, **options), tag).file == file


def test_tensorflows_weights_bring_their_padding_and_epsilon(monkeypatch, server, tmp_path):
    name = "mobilenet_v3_small_minimalistic"
    spec = zoo.get(name)
    (layout,) = (each for each in layouts(spec) if each.library == "timm")
    body = Path(write(tmp_path / "w.safetensors", state(spec, layout))).read_bytes()
    (entry,) = pretrained.CHECKPOINTS[name]
    entry = replace(
        entry,
        url=f"http://127.0.0.1:{server.server_port}/w",
        file="w.safetensors",
        sha256=hashlib.sha256(body).hexdigest()[:8],  # all that is known of most
    )
    monkeypatch.setattr(pretrained, "CHECKPOINTS", {name: (entry,)})
    server.answers["/w"] = (200, len(body), body)
    assert pretrained.available(spec) == (entry,) and pretrained.cached(entry, tmp_path) is None
    resolved = weights.resolve(spec, "pretrained", cache_dir=tmp_path)
    assert (resolved.spec.padding, resolved.spec.bn_eps) == ("same", 1e-3)
    assert resolved.preprocess == Preprocess(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert resolved.origin["sha256"] == hashlib.sha256(body).hexdigest()
    assert pretrained.cached(entry, tmp_path) == resolved.path
    for chosen, says in (
        ({"bn_eps": 1e-5}, "bn_eps 1e-05"),
        ({"mean": (0.4, 0.5, 0.5)}, "leave mean out"),
        ({"padding": "symmetric"}, "for symmetric padding"),
    ):
        own = {key: value for key, value in chosen.items() if key != "mean"}
        assert says in refusal(zoo.get(name, **own), "pretrained", cache_dir=tmp_path, mean=chosen.get("mean"))
    server.answers["/w"] = (200, len(body), b"x" + body[1:])
    resolved.path.unlink()
    assert "was removed" in refusal(spec, "pretrained", cache_dir=tmp_path)


def test_the_published_table_is_consistent():
    """File names carry the first digits of the sha256; every layout is one we can read; no file is there twice."""
    files = [entry.file for choices in CHECKPOINTS.values() for entry in choices]
    assert len(set(files)) == len(files) > 100
    for key, choices in CHECKPOINTS.items():
        name, _, width = key.rpartition("_")
        spec = zoo.get(name, width=float(width)) if width.replace(".", "").isdigit() else zoo.get(key)
        assert pretrained.available(spec) == choices
        assert len({entry.tag for entry in choices}) == len(choices)
        for entry in choices:
            assert len(entry.sha256) in (8, 10, 64) and int(entry.sha256, 16)
            assert entry.layout in {layout.library for layout in layouts(spec)}
            assert entry.url.startswith("https://") and Path(entry.file).suffix in checkpoint.SUFFIXES
            assert (entry.padding == "same") == entry.file.startswith("tf_") == entry.tag.startswith("tf_")
            if entry.file.endswith(".pth"):
                digits = entry.file.removesuffix(".pth").rpartition("-")[2]
                assert entry.sha256.startswith(digits) and len(digits) in (8, 10) and entry.url.endswith(entry.file)
            else:
                assert len(entry.sha256) == 64 and len(entry.url.split("/")[-2]) == 40, "a pinned revision"
            if entry.layout == "torchvision":
                assert entry.preprocess.mean == IMAGENET_MEAN
            assert 50 < entry.top1 < 90
    defaults = [CHECKPOINTS[name][0] for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large")]
    assert [entry.top1 for entry in defaults] == [75.382, 72.154, 75.274]
    assert [round(224 / entry.preprocess.crop) for entry in defaults] == [256, 232, 232]


def test_every_whole_digest_is_of_a_file_in_the_table():
    used = {entry.sha256 for choices in CHECKPOINTS.values() for entry in choices}
    assert set(published_table._DIGESTS) <= used
