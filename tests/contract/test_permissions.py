"""The table in docs/security.md lists exactly the permissions of the template."""

from __future__ import annotations

from collections import Counter

from tests.contract.project import functions
from tests.iam.grants import chosen_conditions, explained, grants, unnoticed

READ_SECRET = "secretsmanager:GetSecretValue"


def test_the_template_and_the_table_list_the_same_permissions() -> None:
    allowed, listed = Counter(grant.row for grant in grants()), Counter(row[:3] for row in explained())
    assert sorted((allowed - listed).elements()) == [], "missing in docs/security.md"
    assert sorted((listed - allowed).elements()) == [], "missing in the template"
    assert max(allowed.values()) == 1, "a permission is granted twice"


def test_every_row_has_a_reason() -> None:
    assert [row for row in explained() if len(row[3]) < len("Its log.")] == []


def test_every_permission_that_only_aws_enforces_exists_and_has_a_source() -> None:
    listed = unnoticed()
    assert listed.keys() <= {grant.row for grant in grants()}
    assert [source for source in listed.values() if "](https://docs.aws.amazon.com/" not in source] == []


def test_only_the_processor_may_read_the_secret_and_only_if_there_is_one() -> None:
    (grant,) = [grant for grant in grants() if grant.action.startswith("secretsmanager:")]
    assert (grant.grantee, grant.action, grant.resource) == (
        "ProcessorFunction",
        READ_SECRET,
        "GenesysCredentialsSecretArn",
    )
    assert chosen_conditions(READ_SECRET) == ["HasCredentials"]
    configured = {
        name
        for name, function in functions().items()
        if "GENESYS_CREDENTIALS_SECRET_ARN" in function["Environment"]["Variables"]
    }
    assert configured == {"ProcessorFunction"}
