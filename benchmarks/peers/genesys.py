"""Genesys Cloud for every peer: a cached token, and cached users that are fetched one by one."""

from __future__ import annotations

import json
import os
import time
from functools import cache
from typing import Any

import boto3
import requests

session = requests.Session()
_token: dict[str, Any] = {"text": "", "expires": 0.0}


def bearer_token() -> str:
    """The access token, renewed a minute before it expires."""
    if time.time() >= _token["expires"]:
        secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["GENESYS_CREDENTIALS_SECRET_ARN"])
        credentials = json.loads(secret["SecretString"])
        answer = session.post(
            f"{os.environ['GENESYS_LOGIN_URL']}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(credentials["clientId"], credentials["clientSecret"]),
            timeout=5,
        )
        answer.raise_for_status()
        _token.update(text=answer.json()["access_token"], expires=time.time() + answer.json()["expires_in"] - 60)
    return str(_token["text"])


@cache
def user(user_id: str) -> dict[str, Any]:
    """Fetch one user."""
    answer = session.get(
        f"{os.environ['GENESYS_API_URL']}/api/v2/users/{user_id}",
        headers={"Authorization": f"Bearer {bearer_token()}"},
        timeout=5,
    )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def add_user(body: dict[str, Any]) -> None:
    """Add the name and address of the user that an event body names."""
    if "userId" in body:
        found = user(body["userId"])
        body.update(userName=found["name"], userEmail=found["email"])
