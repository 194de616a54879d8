"""What can go wrong in the launcher and the command, besides what the tiers say."""

from __future__ import annotations

from wire.errors import HeadwaterError


class ChildError(HeadwaterError):
    """A tier did not come up."""

    status = 503
    code = "start_failed"


class RefusedError(HeadwaterError):
    """A tier refused what was asked of it."""

    status = 502
    code = "refused"


class AnswerError(HeadwaterError):
    """A prompt was not answered, or its answer broke off."""

    status = 502
    code = "answer_failed"


class StepError(HeadwaterError):
    """A step of the demo failed; the message names it."""

    code = "step_failed"
