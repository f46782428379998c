// greeter, version 2: also says hello in the language of ?lang=.
import { JSON_HEADERS, quote, readRequest, respond } from "../../../sdk/assemblyscript/edge";

const request = readRequest();
const name = request.get("params").get("name").text;
const language = request.get("query").get("lang").text;
let hello = "Hello";
if (language == "de") hello = "Hallo";
else if (language == "fr") hello = "Bonjour";
else if (language == "zh") hello = "你好";
respond(200, JSON_HEADERS, `{"greeting":${quote(`${hello}, ${name}!`)}}`);
