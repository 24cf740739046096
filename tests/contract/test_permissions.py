"""The table of permissions and the template say the same, and the secret is for those who use it."""

from __future__ import annotations

from collections import Counter

from tests.contract.project import FUNCTION_IDS, FUNCTIONS, resources
from tests.iam.grants import chosen_conditions, explained, grants, unnoticed

SECRET = "secretsmanager:GetSecretValue"


def test_every_permission_has_its_row_and_every_row_its_permission() -> None:
    given, told = Counter(grant.row for grant in grants()), Counter(row[:3] for row in explained())
    assert sorted((given - told).elements()) == [], "docs/security.md lacks a row"
    assert sorted((told - given).elements()) == [], "the template lacks what docs/security.md tells of"


def test_no_permission_is_given_twice() -> None:
    assert [row for row, count in Counter(grant.row for grant in grants()).items() if count > 1] == []


def test_every_row_says_why() -> None:
    assert [row for row in explained() if len(row[3]) < len("Its log.")] == []


def test_what_only_aws_notices_is_there_and_each_has_its_source() -> None:
    listed = unnoticed()
    assert listed.keys() <= {grant.row for grant in grants()}
    assert [source for source in listed.values() if "](https://docs.aws.amazon.com/" not in source] == []


def test_only_the_function_that_uses_the_secret_may_read_it() -> None:
    using = {name for folder, name in FUNCTION_IDS.items() if "secrets" in (FUNCTIONS / folder / "app.py").read_text()}
    assert {grant.who for grant in grants() if grant.action.startswith("secretsmanager:")} == using
    told = {
        name
        for name, function in resources("AWS::Serverless::Function").items()
        if "GENESYS_CREDENTIALS_SECRET_ARN" in function["Properties"]["Environment"]["Variables"]
    }
    assert told == using


def test_the_secret_may_be_read_only_where_the_parameter_names_one() -> None:
    (grant,) = [grant for grant in grants() if grant.action == SECRET]
    assert grant.resource == "GenesysCredentialsSecretArn"
    assert chosen_conditions(SECRET) == ["HasCredentials"]
