"""A function for the world edge: it counts in a module variable, which each request finds as it was built."""

import json
import random

import wit_world

count = 0


class WitWorld(wit_world.WitWorld):
    def handle(self, request: str) -> str:
        global count
        count += 1
        asked = json.loads(request)
        body = {"path": asked["path"], "body": asked["body"], "count": count, "random": random.random()}
        headers = {"content-type": "application/json"}
        return json.dumps({"status_code": 201, "headers": headers, "body": json.dumps(body)})
