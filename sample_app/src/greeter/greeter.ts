// greeter: says hello to the path parameter `name`.
import { JSON_HEADERS, quote, readRequest, respond } from "../../../sdk/assemblyscript/edge";

const name = readRequest().get("params").get("name").text;
respond(200, JSON_HEADERS, `{"greeting":${quote(`Hello, ${name}!`)}}`);
