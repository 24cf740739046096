"""The Genesys stand-in: answers in the format of Genesys Cloud, and faults."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import requests

from local.genesys import CLIENT_ID, CLIENT_SECRET, QUEUES_PATH, WRAP_UP_CODES_PATH, GenesysStandIn, named, user

ANNA, BEN, GONE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


@pytest.fixture
def genesys() -> Iterator[GenesysStandIn]:
    with GenesysStandIn(missing=[GONE]) as stand_in:
        yield stand_in


def token(genesys: GenesysStandIn) -> requests.Response:
    return requests.post(
        f"{genesys.url}/oauth/token",
        auth=(CLIENT_ID, CLIENT_SECRET),
        data={"grant_type": "client_credentials"},
        timeout=5,
    )


def signed(genesys: GenesysStandIn) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(genesys).json()['access_token']}"}


def users(genesys: GenesysStandIn, headers: dict[str, str], **query: str) -> requests.Response:
    return requests.get(f"{genesys.url}/api/v2/users", params=query, headers=headers, timeout=5)


def fault(genesys: GenesysStandIn, faults: dict[str, object]) -> requests.Response:
    return requests.put(f"{genesys.url}/_faults", json=faults, timeout=5)


def test_the_login_issues_tokens_only_for_the_client_s_credentials_and_grant(genesys: GenesysStandIn) -> None:
    answer = token(genesys)
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "token_type", "expires_in"}

    wrong = requests.post(f"{genesys.url}/oauth/token", auth=("local-client", "guess"), timeout=5)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")

    grantless = requests.post(f"{genesys.url}/oauth/token", auth=(CLIENT_ID, CLIENT_SECRET), timeout=5)
    assert grantless.status_code == 400


def test_missing_users_are_left_out_of_the_answer(genesys: GenesysStandIn) -> None:
    answer = users(genesys, signed(genesys), id=f"{ANNA},{GONE},{BEN},no-uuid", pageSize="100")
    body = answer.json()
    assert body["entities"] == [user(ANNA), user(BEN)]
    assert (body["pageSize"], body["pageNumber"], body["total"], body["pageCount"]) == (100, 1, 2, 1)
    assert answer.headers["inin-ratelimit-allowed"] == "300"


def test_a_page_holds_25_users_by_default_and_500_at_most(genesys: GenesysStandIn) -> None:
    ids = ",".join(str(uuid.UUID(int=number)) for number in range(100, 140))
    assert len(users(genesys, signed(genesys), id=ids).json()["entities"]) == 25
    assert len(users(genesys, signed(genesys), id=ids, pageSize="100").json()["entities"]) == 40
    assert users(genesys, signed(genesys), id=ids, pageSize="501").status_code == 400


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": "Basic x"}])
def test_the_users_api_requires_a_token(genesys: GenesysStandIn, headers: dict[str, str]) -> None:
    answer = users(genesys, headers, id=ANNA)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad.credentials")


def test_an_expired_or_revoked_token_is_refused(genesys: GenesysStandIn) -> None:
    with GenesysStandIn(token_seconds=0) as short:
        assert users(short, signed(short), id=ANNA).status_code == 401
    headers = signed(genesys)
    requests.post(f"{genesys.url}/_revoke", timeout=5)
    assert users(genesys, headers, id=ANNA).status_code == 401
    assert users(genesys, signed(genesys), id=ANNA).status_code == 200


def test_every_token_has_its_own_rate_limit() -> None:
    with GenesysStandIn(requests_per_minute=2) as genesys:
        headers = signed(genesys)
        statuses = [users(genesys, headers, id=ANNA).status_code for _ in range(3)]
        last = users(genesys, headers, id=ANNA)
        assert statuses == [200, 200, 429]
        assert last.json()["code"] == "too.many.requests.retry.after"
        assert 1 <= int(last.headers["Retry-After"]) <= 60
        assert users(genesys, signed(genesys), id=ANNA).status_code == 200


def test_a_fault_lasts_until_it_is_replaced_or_has_affected_its_number_of_requests(genesys: GenesysStandIn) -> None:
    headers = signed(genesys)
    fault(genesys, {"status": 429, "retryAfter": 120})
    answer = users(genesys, headers, id=ANNA)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "120")
    fault(genesys, {"status": 401, "times": 1, "path": "/api"})
    assert token(genesys).status_code == 200
    assert [users(genesys, headers, id=ANNA).status_code for _ in range(2)] == [401, 200]


def test_a_fault_can_affect_a_share_of_the_requests(genesys: GenesysStandIn) -> None:
    headers = signed(genesys)
    fault(genesys, {"status": 503, "rate": 0.5, "path": "/api"})
    statuses = {users(genesys, headers, id=ANNA).status_code for _ in range(40)}
    assert statuses == {200, 503}


def test_an_unknown_fault_is_refused(genesys: GenesysStandIn) -> None:
    answer = fault(genesys, {"latency": 1})
    assert (answer.status_code, "'latency'" in answer.text) == (400, True)


def test_requests_and_tokens_are_counted(genesys: GenesysStandIn) -> None:
    headers = signed(genesys)
    for _ in range(3):
        users(genesys, headers, id=ANNA)
    stats = requests.get(f"{genesys.url}/_stats", timeout=5).json()
    assert stats["requests"] == {"POST /oauth/token 200": 1, "GET /api/v2/users 200": 3}
    assert stats["tokensIssued"] == 1


def test_tokens_above_the_rate_are_refused_as_genesys_refuses_them(genesys: GenesysStandIn) -> None:
    fault(genesys, {"tokensPerSecond": 0})
    answer = token(genesys)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["description"].startswith("rate limit exceeded")


def test_a_fault_can_be_a_page_a_redirect_or_a_header(genesys: GenesysStandIn) -> None:
    fault(genesys, {"status": 404, "html": True})
    assert token(genesys).headers["Content-Type"] == "text/html"
    fault(genesys, {"status": 429, "retryAfter": "45.5", "headers": {"inin-ratelimit-reset": "7"}})
    answer = token(genesys)
    assert (answer.headers["Retry-After"], answer.headers["inin-ratelimit-reset"]) == ("45.5", "7")


def test_the_life_of_a_token_can_be_text_or_missing(genesys: GenesysStandIn) -> None:
    fault(genesys, {"expiresIn": "300"})
    assert token(genesys).json()["expires_in"] == "300"
    fault(genesys, {"expiresIn": None})
    assert "expires_in" not in token(genesys).json()


def test_pages_can_be_small_and_ids_in_upper_case(genesys: GenesysStandIn) -> None:
    headers = signed(genesys)
    lettered = "5f1c0a3e-0000-4000-8000-00000000000a"
    fault(genesys, {"pageSize": 1, "upperCase": True})
    pages = [users(genesys, headers, id=f"{ANNA},{lettered}", pageNumber=number).json() for number in ("1", "2")]
    assert [page["entities"][0]["id"] for page in pages] == [ANNA, lettered.upper()]
    assert [(page["total"], page["pageCount"]) for page in pages] == [(2, 2), (2, 2)]


def test_inactive_users_need_any_state() -> None:
    with GenesysStandIn(inactive=[GONE]) as genesys:
        headers = signed(genesys)
        assert users(genesys, headers, id=GONE).json()["entities"] == []
        assert users(genesys, headers, id=GONE, state="any").json()["entities"] == [user(GONE)]


def test_queues_and_wrap_up_codes_have_names(genesys: GenesysStandIn) -> None:
    for path in (QUEUES_PATH, WRAP_UP_CODES_PATH):
        query = {"id": [ANNA, BEN]}
        answer = requests.get(f"{genesys.url}{path}", params=query, headers=signed(genesys), timeout=5)
        assert answer.json()["entities"] == [named(path, ANNA), named(path, BEN)]


def test_a_frozen_connection_answers_nothing_and_a_new_one_does(genesys: GenesysStandIn) -> None:
    with requests.Session() as session:
        url = f"{genesys.url}/_stats"
        session.get(url, timeout=5)
        requests.post(f"{genesys.url}/_freeze", timeout=5)
        with pytest.raises(requests.Timeout):
            session.get(f"{genesys.url}/api/v2/users", timeout=0.2)
    assert users(genesys, signed(genesys), id=ANNA).status_code == 200
