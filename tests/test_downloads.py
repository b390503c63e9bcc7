"""Downloads without a table behind them; tests/test_pretrained.py has every way in which one can go wrong."""

import hashlib
from pathlib import Path

import pytest

from mobench import downloads
from mobench.errors import BadInputError

BODY = b"a library" * 1000


@pytest.fixture
def url(server):
    server.answers["/f"] = (200, len(BODY), BODY)
    return f"http://127.0.0.1:{server.server_port}/f"


def test_the_checksum_of_what_lies_there_is_told_and_nothing_kept(url, tmp_path):
    assert downloads.checksum(url) == hashlib.sha256(BODY).hexdigest()
    assert list(tmp_path.iterdir()) == []


def test_the_mend_is_what_the_caller_offers(server, url, tmp_path):
    server.answers["/f"] = (200, len(BODY), BODY[:10])
    with pytest.raises(BadInputError, match=r"broke off after 10 of 9000 bytes; try again$"):
        downloads.download(url, "00", tmp_path / "f")
    with pytest.raises(BadInputError, match=r"; try again, or give a file$"):
        downloads.download(url, "00", tmp_path / "f", otherwise="give a file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["nonsense", "http://[", "http://127.0.0.1:port/"])
def test_what_is_no_address_is_one_line(wrong, tmp_path):
    with pytest.raises(BadInputError, match="cannot download"):
        downloads.download(wrong, "00", tmp_path / "f")


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
    assert downloads.cache_folder() == Path(folder)
