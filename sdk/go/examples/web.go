// The ten examples of docs/sdk-examples.md, one path for each.
package main

import (
	"fmt"
	"strconv"
	"strings"

	"starlette-wasm/edge"
)

// example: hello
func hello(request *edge.Request) *edge.Response {
	name := request.Query["name"]
	if name == "" {
		name = "world"
	}
	return edge.Text(200, "Hello, "+name+"!\n")
}

// example: json
func sum(request *edge.Request) *edge.Response {
	var asked struct{ Numbers []int }
	if err := request.JSON(&asked); err != nil {
		return edge.Problem(400, "Not JSON", err.Error())
	}
	total := 0
	for _, number := range asked.Numbers {
		total += number
	}
	return edge.JSON(200, map[string]int{"sum": total})
}

// example: query
func tags(request *edge.Request) *edge.Response {
	lines := ""
	for _, tag := range request.QueryAll("tag") {
		lines += tag + "\n"
	}
	return edge.Text(200, lines)
}

// example: cookies
func visits(request *edge.Request) *edge.Response {
	before, _ := request.Cookie("visits")
	count, _ := strconv.Atoi(before) // 0 if it is no number
	text := strconv.Itoa(count + 1)
	return edge.Text(200, "visit "+text).Cookie("visits", text, "Path=/; HttpOnly; SameSite=Lax")
}

// example: form
func order(request *edge.Request) *edge.Response {
	form := request.Form()
	if !form.Has("count") || !form.Has("item") {
		return edge.Problem(400, "Incomplete order", "send count and item")
	}
	return edge.Text(200, form.Get("count")+" x "+form.Get("item"))
}

// example: multipart
func upload(request *edge.Request) *edge.Response {
	parts := request.Multipart()
	if len(parts) == 0 {
		return edge.Problem(400, "No file", "send multipart/form-data")
	}
	file := parts[0]
	return edge.JSON(200, map[string]any{"filename": file.Filename, "type": file.Type, "bytes": len(file.Body)})
}

// example: redirect
func moved(*edge.Request) *edge.Response {
	return edge.Redirect(308, "/hello?name=Ada")
}

// example: problem
func item(request *edge.Request) *edge.Response {
	id, err := strconv.Atoi(request.Query["id"])
	if err != nil {
		return edge.Problem(400, "Not a number", "id is to be a number")
	}
	return edge.Text(200, fmt.Sprintf("item %d", id))
}

// example: fetch
func rates(*edge.Request) *edge.Response {
	edge.Info("asking for the rates")
	got, err := edge.Fetch{URL: "https://api.example.com/rates"}.Send()
	if err != nil {
		edge.Error(err.Error())
		return edge.Problem(502, "No rates", err.(*edge.Failure).Code)
	}
	return edge.Bytes(got.Status, "application/json", got.Body)
}

// example: store
func placeOrder(request *edge.Request) (int64, error) {
	span, err := edge.StartSpan("place order", nil)
	if err != nil {
		return 0, err
	}
	number, err := edge.KV("shop").Increment("orders", 1)
	if err == nil {
		_, err = edge.Publish("orders", request.Body(), map[string]string{"kind": "new"})
	}
	span.End(err)
	return number, err
}

func orders(request *edge.Request) *edge.Response {
	number, err := placeOrder(request)
	if err != nil {
		return edge.Problem(502, "Failed", err.Error())
	}
	return edge.Text(202, fmt.Sprintf("order %d", number))
}

// example: end
func main() {
	routes := map[string]func(*edge.Request) *edge.Response{
		"hello": hello, "sum": sum, "tags": tags, "visits": visits, "order": order,
		"upload": upload, "moved": moved, "item": item, "rates": rates, "orders": orders,
	}
	edge.Serve(func(request *edge.Request) *edge.Response {
		if answer, ok := routes[strings.TrimPrefix(request.Path, "/")]; ok {
			return answer(request)
		}
		return edge.Problem(404, "Not found", "there is no such example")
	})
}
