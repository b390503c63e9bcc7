"""Errors a user can mend: one line that says what failed, why, and what to do."""


class MobenchError(Exception):
    """A failure that is not our bug.

    ``what`` failed, ``why`` it did, and the ``mend`` the user can apply. Its text is one line, whatever the
    parts hold, so that it can be printed, journaled and read back.
    """

    kind = "error"

    def __init__(self, what: str, why: str = "", mend: str = "") -> None:
        self.what, self.why, self.mend = (" ".join(part.split()) for part in (what, why, mend))
        super().__init__(self.what, self.why, self.mend)

    def __str__(self) -> str:
        """Return ``what: why; mend`` on one line, empty parts left out."""
        reason = f"{self.what}: {self.why}" if self.why else self.what
        return f"{reason}; {self.mend}" if self.mend else reason


class BadInputError(MobenchError):
    """What the user gave cannot be used: a missing file, an unknown name, a foreign format."""

    kind = "bad_input"


class MissingExtraError(MobenchError):
    """A package that only some of mobench needs is not installed; ``extra`` brings it, or pip alone where empty."""

    kind = "missing_extra"

    def __init__(self, package: str, extra: str = "") -> None:
        mend = f"pip install '.[{extra}]' in mobench's source folder" if extra else f"pip install {package}"
        super().__init__(f"{package} is not installed", mend=mend)


class SessionError(MobenchError):
    """The process that holds a model failed, died or did not answer in time."""

    kind = "session"


class DeathError(SessionError):
    """The process that holds a model ended without a word: it was killed, or crashed."""


class LinkError(SessionError):
    """The phone is out of reach: unplugged, rebooting, or adb has lost it. What was measured before stands."""

    kind = "link"


class NotReadyError(SessionError):
    """The phone must not be measured now: it is too hot, or its battery too low. What was measured before stands."""

    kind = "not_ready"


class ExportError(MobenchError):
    """An export failed or its output is too far from the reference; no file was left behind."""

    kind = "export"
