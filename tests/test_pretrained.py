"""Published checkpoints: downloaded once to the cache, checked, and refused in one line when anything is wrong."""

import hashlib
import http.server
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from weight_files import refusal, state, write

from mobench import zoo
from mobench.records import IMAGENET_MEAN
from mobench.zoo import checkpoint, pretrained, weights
from mobench.zoo.keys import LAYOUTS


@pytest.fixture
def server():
    """A loopback server that answers as `answers[path]` says: (status, announced length or None, body)."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, length, body = answers[self.path]
            self.send_response(status)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        httpd.answers, httpd.asked = answers, asked
        yield httpd
        httpd.shutdown()
        thread.join()


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
    server.answers["/w"] = (200, None, published)
    weights.resolve(V1, "pretrained", cache_dir=tmp_path / "cache")


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


def test_widths_and_tags_nobody_published_are_refused():
    assert "at width 0.5" in refusal(zoo.get("mobilenet_v2", width=0.5), "pretrained")
    message = refusal(zoo.get("mobilenet_v2"), "pretrained:V9")
    assert "IMAGENET1K_V2 or IMAGENET1K_V1" in message


def test_the_published_table_is_consistent():
    """torchvision's file names carry the first 8 digits of the sha256; every layout is one we can read."""
    assert set(pretrained.CHECKPOINTS) == set(zoo.names())
    for name, choices in pretrained.CHECKPOINTS.items():
        for entry in choices:
            assert len(entry.sha256) == 64 and int(entry.sha256, 16)
            assert entry.layout in {layout.library for layout in LAYOUTS[name]}
            assert entry.url.startswith("https://") and Path(entry.file).suffix in checkpoint.SUFFIXES
            if entry.layout == "torchvision":
                assert f"-{entry.sha256[:8]}.pth" in entry.url
                assert entry.preprocess.mean == IMAGENET_MEAN
    assert [choices[0].top1 for choices in pretrained.CHECKPOINTS.values()] == [75.382, 72.154, 75.274, 67.668]
    resize = [round(224 / choices[0].preprocess.crop) for choices in pretrained.CHECKPOINTS.values()]
    assert resize == [256, 232, 232, 256]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"MOBENCH_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/mobench"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/mobench"),
        ({"HOME": "/h"}, "/h/.cache/mobench"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, environment, folder):
    for name in ("MOBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pretrained.cache_folder() == Path(folder)
