"""Lambda authorizers, live and planned: how often their functions are asked, what is kept, who is denied, who fails."""

import json
import subprocess

import pytest

from support import puppet, templates
from support.crowd import crowd
from support.paths import BINARY

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

USERS, EACH = 8, 5
DENIED = 2  # of the users
GUARD = """
token = event.get('authorizationToken') or {k.lower(): v for k, v in event['headers'].items()}['x-token']
every = '/'.join((event.get('methodArn') or event['routeArn']).split('/')[:2]) + '/*'
statement = {'Action': 'execute-api:Invoke', 'Effect': 'Deny' if token.startswith('denied') else 'Allow', 'Resource': every}
answer = {'principalId': token, 'policyDocument': {'Version': '2012-10-17', 'Statement': [statement]}}
"""
# By route: its API, its authorizer, and the authorizer's function.
ROUTES = {
    "kept": ("Rest", "Token", "Guard"),
    "anew": ("Rest", "Anew", "Second"),
    "simple": ("Http", "Policy", "Third"),
    "stopped": ("Rest", "Stopped", "Stopped"),
}


def template(home):
    def auth(names, **identity):
        chosen = {name: (ttl, function) for route, (_, name, function) in ROUTES.items() for ttl in [0 if route == "anew" else 300] if name in names}
        return {
            name: {
                "FunctionArn": {"Fn::GetAtt": [function, "Arn"]},
                "Identity": identity | {"ReauthorizeEvery": ttl},
                **({"AuthorizerPayloadFormatVersion": "2.0", "EnableFunctionDefaultPermissions": True} if "Headers" in identity else {}),
            }
            for name, (ttl, function) in chosen.items()
        }

    rest = {"StageName": "Prod", "Auth": {"Authorizers": auth(["Token", "Anew", "Stopped"], Header="X-Token")}}
    http = {"Auth": {"Authorizers": auth(["Policy"], Headers=["X-Token"])}}
    resources = {
        "Rest": {"Type": "AWS::Serverless::Api", "Properties": rest},
        "Http": {"Type": "AWS::Serverless::HttpApi", "Properties": http},
    }
    events = {}
    for route, (api, authorizer, _) in ROUTES.items():
        kind, named = ("Api", "RestApiId") if api == "Rest" else ("HttpApi", "ApiId")
        settings = {named: {"Ref": api}, "Method": "GET", "Path": f"/{route}", "Auth": {"Authorizer": authorizer}}
        events[route] = {"Type": kind, "Properties": settings}
    guarding = {"Environment": {"Variables": {"PUPPET": GUARD}}}
    functions = {"Cart": ("puppet", {"Events": events})}
    functions |= {function: ("puppet", guarding) for *_, function in ROUTES.values()}
    functions["Stopped"] = ("puppet", guarding | {"ReservedConcurrentExecutions": 0})
    return templates.write(home, functions, resources)


def planned(home, path):
    """Of each route: statuses, invocations of the authorizer's function and of the route's."""
    found = {}
    for route, (api, _, guard) in ROUTES.items():
        load = home / f"{route}.json"
        phase = {"target": api, "request": f"GET /{route}", "users": USERS, "requests": USERS * EACH, "denied": DENIED / USERS}
        behaviour = {name: {"init": "10ms", "steps": [{"compute": "5ms"}]} for name in ("Cart", guard)}
        load.write_text(json.dumps({"version": 1, "phases": [phase], "behaviour": behaviour}))
        said = subprocess.run([BINARY, "plan", path, "--load", load, "--json"], check=True, capture_output=True, text=True)
        report = json.loads(said.stdout)
        invocations = {row["name"]: row["invocations"] for row in report["functions"]}
        statuses = {int(status): count for status, count in report["summary"]["statuses"].items()}
        found[route] = (statuses, invocations[guard], invocations["Cart"])
    return found


def test_authorizers_are_asked_as_often_live_as_planned(start, tmp_path):
    path = template(tmp_path)
    expected = planned(tmp_path, path)
    allowed, total = (USERS - DENIED) * EACH, USERS * EACH
    answered = {200: allowed, 403: total - allowed}
    assert expected == {
        "kept": (answered, USERS, allowed),
        "anew": (answered, total, allowed),
        "simple": (answered, USERS, allowed),
        "stopped": ({500: total}, 0, 0),
    }
    platform = start(template=path)
    tokens = [f"{'denied' if user < DENIED else 'user'}{user}" for user in range(USERS)]
    live = {}
    for route, (api, _, guard) in ROUTES.items():

        def user(token, api=api, route=route):
            headers = {"x-token": token, "x-puppet": "answer = {'statusCode': 200}"}
            stage = "/Prod" if api == "Rest" else ""
            return [platform.door(api, f"{stage}/{route}", headers=headers).status for _ in range(EACH)]

        before = platform.metric("invocations", "Cart") or 0
        statuses = [status for all in crowd(user, tokens) for status in all]
        counts = {status: statuses.count(status) for status in sorted(set(statuses))}
        asked = 0 if guard == "Stopped" else platform.metric("invocations", guard)
        live[route] = (counts, asked, platform.metric("invocations", "Cart") - before)
    assert live == expected
    assert platform.limit("lambda.reserved-concurrency", "Stopped")["refused"] == total
