"""The error tree. Every message names the value, the limit and the mend."""

from __future__ import annotations

from typing import Any


class AffordAgentError(Exception):
    """Root of all errors raised on purpose by affordagent."""


class StageFailure(AffordAgentError):
    """A stage could not do its work: the pipeline ends with this as its typed result.

    Attributes:
        stage: where it happened, one of `affordagent.core.types.STAGES`.
        code: `group.code` of the failure taxonomy (docs/troubleshooting.md), e.g. "depth.hole".
        evidence: small JSON-able facts that show why.
    """

    def __init__(self, stage: str, code: str, message: str, **evidence: Any) -> None:
        super().__init__(message)
        self.stage, self.code, self.message, self.evidence = stage, code, message, evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.stage, self.code, self.message, self.evidence))


class Refused(StageFailure):
    """The command must not, or need not, move the robot: not an error of the pipeline."""


class NeedsClarification(StageFailure):
    """The command cannot be acted on without an answer; `evidence["question"]` holds the question."""


def _rebuild(kind: type[StageFailure], stage: str, code: str, message: str, evidence: dict[str, Any]) -> StageFailure:
    return kind(stage, code, message, **evidence)
