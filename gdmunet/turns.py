"""A claim in turn: who comes while another process holds it waits as long as that one shows that it works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from gdmunet.claims import Claim, ClaimedError
from gdmunet.patience import Patience, Signs

_PAUSE = 0.1


def _nothing() -> float:
    return 0.0


@contextlib.contextmanager
def in_turn(claim: Claim, signs: Signs = _nothing) -> Iterator[bool]:
    """Hold a claim as soon as no other process does; gives whether another one held it before.

    Parameters
    ----------
    signs
        Gives another number when the process that holds the claim has got on, such as the bytes that it has written;
        default: nobody sees whether it does.

    Raises
    ------
    ClaimedError
        The other process has shown nothing new for as long as a wait may last (`GDM_WAIT_LIMIT`).
    """
    patience, waited = Patience(), False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(claim)
                break
            except ClaimedError:
                if patience.lost([(0, signs)]):
                    raise
                waited = True
                time.sleep(_PAUSE)
        yield waited
