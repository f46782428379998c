"""Greets, and counts the words that are posted to it: a function for the world edge."""

import json

import wit_world


def answer(status_code: int, data: dict[str, object]) -> str:
    headers = {"content-type": "application/json"}
    return json.dumps({"status_code": status_code, "headers": headers, "body": json.dumps(data)})


class WitWorld(wit_world.WitWorld):
    def handle(self, request: str) -> str:
        asked = json.loads(request)
        if asked["method"] not in ("GET", "POST"):
            return answer(405, {"error": "use GET or POST"})
        greeting = f"Hello, {asked['query'].get('name', 'world')}!"
        return answer(200, {"greeting": greeting, "from": "Python", "words": len((asked["body"] or "").split())})
