"""Least privilege, proved both ways on the enforcing engine: all permissions suffice, and each of them is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.iam.grants import Grant, grants, unnoticed
from tests.iam.probes import PROBES, broken
from tests.iam.world import SEEN

if TYPE_CHECKING:
    from tests.iam.world import World


def test_everybody_who_is_allowed_something_is_watched() -> None:
    assert PROBES.keys() == {grant.who for grant in grants() if not grant.action.startswith("Deny ")}


@pytest.mark.parametrize("who", PROBES)
def test_with_all_permissions_everything_works(world: World, who: str) -> None:
    assert broken(world, who) is None


def test_without_a_permission_something_is_missed(world: World, grant: Grant, pytestconfig: pytest.Config) -> None:
    with world.without(grant):
        missed = broken(world, grant.who)
    if grant.row in unnoticed():
        assert missed is None, (
            f"the engine notices it by itself: take it off the list of what only AWS notices ({missed})"
        )
    else:
        assert missed, "nothing depends on it: take it out of the template, or watch what does"
        pytestconfig.stash.setdefault(SEEN, {})[" ".join(grant.row)] = missed


def test_with_all_permissions_given_back_everything_works_again(world: World, robbed: str) -> None:
    assert broken(world, robbed) is None
