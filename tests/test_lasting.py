"""Work on a phone that is not timed: it rests, and goes on where the cable was pulled, though not for ever."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_accuracy import FakeSession, _images, _reads_red

from mobench import accuracy
from mobench.classifier import Options
from mobench.errors import LinkError, NotReadyError, SessionError
from mobench.lasting import REST_S, LastingSession
from mobench.measure import FRUITLESS
from mobench.records import Artifact, DeviceState
from runners.fake import FakeClock

LOST = LinkError("phone R5", "device not found", "plug it in")


class Patient:
    """Care that counts how often it is asked, and comes back as it is told to."""

    def __init__(self) -> None:
        self.looked = self.waited = 0
        self.boot = "same"
        self.hot: SessionError | None = None

    def ready(self, tell: Callable[[str], None]) -> float:  # noqa: D102
        self.looked += 1
        if self.hot:
            raise self.hot
        return 0.0

    def verdict(self, before: DeviceState, after: DeviceState) -> str | None:  # noqa: D102
        raise AssertionError("nothing is timed")

    def reconnect(self, error: LinkError, tell: Callable[[str], None]) -> Mapping[str, Any]:  # noqa: D102
        self.waited += 1
        for _ in range(3):
            tell(f"{error}: waiting for the phone")
        return {"waited_s": 90.0, "boot": self.boot}


class Phone:
    """Opens sessions, whose requests of the given numbers meet a pulled cable."""

    def __init__(self, lost_at: Callable[[int], bool] = lambda number: False) -> None:
        self.sessions: list[FakeSession] = []
        self.clock, self.care, self.told = FakeClock(), Patient(), list[str]()
        self.lost_at, self.requests = lost_at, 0

    def once(self) -> FakeSession:
        """Open a session."""
        phone, reads = self, _reads_red()

        class Session(FakeSession):
            def predict(self, inputs: np.ndarray, *, deadline_s: float = 60.0) -> np.ndarray:
                phone.requests += 1
                phone.clock.now_s += 1.0
                if phone.lost_at(phone.requests):
                    raise LOST
                return super().predict(inputs, deadline_s=deadline_s)

        self.sessions.append(Session(reads))
        return self.sessions[-1]

    def open(self) -> LastingSession:
        """Open a session that lasts."""
        return LastingSession(self.once, self.care, label="net.onnx", tell=self.told.append, clock=self.clock)


def evaluate(phone: Phone, folder: Path, count: int = 40) -> accuracy.Evaluation:
    """Measure the accuracy on so many images, five chunks of eight where there are 40."""
    images = _images(folder, [(number, number if number % 2 else 900) for number in range(count)])
    file = Artifact(path=Path("net.onnx"), sha256="ab" * 32, size_bytes=1, format="onnx", name="net")
    return accuracy.evaluate(
        file, images, runtime="ort", open_session=lambda *_: phone.open(), data="set", device="android-cpu",
        options=Options(raw_pixels=True),
    )  # fmt: skip


def test_a_pulled_cable_costs_no_image_and_counts_none_twice(tmp_path: Path) -> None:
    phone = Phone(lambda number: number in (2, 3, 5))
    found = evaluate(phone, tmp_path).accuracy
    assert (found.n, found.top1) == (40, 50.0)
    assert phone.care.waited == 3 and phone.requests == 5 + 3
    assert len(phone.sessions) == 4 and all(session.closed for session in phone.sessions)
    assert phone.told == [f"{LOST}: waiting for the phone"], "once, not every 30 s"


def test_a_link_that_goes_before_the_model_is_loaded_is_waited_for() -> None:
    phone = Phone()
    once: Iterator[Exception | None] = iter((LOST, None))

    def opens() -> FakeSession:
        if error := next(once):
            raise error
        return phone.once()

    session = LastingSession(opens, phone.care, label="net.onnx", tell=phone.told.append)
    assert session.ready is phone.sessions[0].ready and phone.care.waited == 1
    session.close()
    assert phone.sessions[0].closed


def test_a_phone_is_looked_after_before_the_first_request_and_every_few_seconds(tmp_path: Path) -> None:
    phone = Phone()
    evaluate(phone, tmp_path, count=8 * 25)
    assert phone.care.looked == 1 + int(24 / REST_S)


def test_a_phone_that_must_rest_ends_it_and_closes_the_session() -> None:
    phone = Phone()
    with_it = phone.open()
    phone.care.hot = NotReadyError("phone R5", "19 % of charge are left", "charge it")
    phone.clock.now_s += REST_S
    with pytest.raises(NotReadyError):
        with_it.predict(np.zeros((1, 8, 8, 3), np.float32))
    assert phone.sessions[0].closed and phone.requests == 0


def test_a_model_under_which_the_phone_restarts_again_is_given_up(tmp_path: Path) -> None:
    phone = Phone(lambda number: True)
    phone.care.boot = "new"
    with pytest.raises(SessionError, match=r"^net.onnx: the phone restarted again"):
        evaluate(phone, tmp_path)
    assert phone.care.waited == 2


def test_a_link_that_always_breaks_ends_it(tmp_path: Path) -> None:
    phone = Phone(lambda number: True)
    with pytest.raises(LinkError):
        evaluate(phone, tmp_path)
    assert phone.care.waited == FRUITLESS - 1 and all(session.closed for session in phone.sessions)
