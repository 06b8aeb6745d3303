"""Is the table as it was when a motion was planned? Each thing that stood there then, or stands there now, is compared
in depth and colour."""

from __future__ import annotations

from affordagent.core.types import ObjectProposal, PaintedMask, RgbdFrame, TableScene
from affordagent.tools.painted import CHANGED, change_of
from affordagent.tools.table import find_objects


def things_that_changed(then: RgbdFrame, table: TableScene, now: RgbdFrame) -> list[ObjectProposal]:
    """The things of both pictures, of one camera, under which more pixels changed than noise explains: moved, gone, or
    new. table: of the picture of then.

    Raises:
        StageFailure: ("look", code): nothing stands on the table now, or the picture is of no use.
    """
    table_now = find_objects(now)
    both = [*table.proposals, *table_now.proposals]
    return [thing for thing in both if change_of(PaintedMask(thing.mask, then), now, table_now).under > CHANGED]
