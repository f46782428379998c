// Greets, and counts the words that are posted to it: JSON on stdin, JSON on stdout.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
)

type request struct {
	Method string            `json:"method"`
	Query  map[string]string `json:"query"`
	Body   string            `json:"body"`
}

type response struct {
	StatusCode int               `json:"status_code"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
}

func main() {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer(asked)); err != nil {
		log.Fatal(err)
	}
}

func answer(asked request) response {
	status, data := 200, map[string]any{"from": "Go", "words": len(strings.Fields(asked.Body))}
	switch name := asked.Query["name"]; {
	case asked.Method != "GET" && asked.Method != "POST":
		status, data = 405, map[string]any{"error": "use GET or POST"}
	case name == "":
		data["greeting"] = "Hello, world!"
	default:
		data["greeting"] = "Hello, " + name + "!"
	}
	body, _ := json.Marshal(data)
	return response{status, map[string]string{"Content-Type": "application/json"}, string(body)}
}
