"""Least privilege in both directions on the enforcing engine: the permissions suffice, and each of them is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.iam.grants import Grant, removable, unnoticed
from tests.iam.probes import PROBES, broken
from tests.iam.world import FAILURES

if TYPE_CHECKING:
    from tests.iam.world import World


def test_every_grantee_has_a_probe() -> None:
    assert PROBES.keys() == {grant.grantee for grant in removable()}


@pytest.mark.parametrize("grantee", PROBES)
def test_with_all_permissions_everything_works(world: World, grantee: str) -> None:
    assert broken(world, grantee) is None


def test_without_a_permission_something_fails(world: World, grant: Grant, pytestconfig: pytest.Config) -> None:
    with world.without(grant):
        failure = broken(world, grant.grantee)
    if grant.row in unnoticed():
        assert failure is None, f"the engine needs it: remove it from the list of what only AWS notices ({failure})"
    else:
        assert failure, "nothing needs it: remove it from the template, or add a probe for what needs it"
        pytestconfig.stash.setdefault(FAILURES, {})[" ".join(grant.row)] = failure


def test_with_all_permissions_restored_everything_works_again(world: World, restored: str) -> None:
    assert broken(world, restored) is None
