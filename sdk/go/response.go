package edge

import (
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"unicode/utf8"
)

// Response is an answer. A header may have several values.
type Response struct {
	Status  int
	Headers map[string][]string
	Body    []byte
}

// Bytes makes an answer with a content type.
func Bytes(status int, contentType string, body []byte) *Response {
	return (&Response{Status: status, Headers: map[string][]string{}, Body: body}).Header("content-type", contentType)
}

// Text makes an answer of plain text.
func Text(status int, body string) *Response {
	return Bytes(status, "text/plain; charset=utf-8", []byte(body))
}

// JSON makes an answer of what json.Marshal takes; it panics for what that does not.
func JSON(status int, value any) *Response {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return Bytes(status, "application/json", body)
}

// Redirect leads on: 303 to a GET, 307 and 308 with the same method.
func Redirect(status int, location string) *Response {
	return (&Response{Status: status, Headers: map[string][]string{}}).Header("location", location)
}

// Problem makes an answer of application/problem+json, RFC 9457.
func Problem(status int, title, detail string) *Response {
	response := JSON(status, map[string]any{"title": title, "status": status, "detail": detail})
	return response.set("content-type", "application/problem+json")
}

// Header adds a value of a header.
func (r *Response) Header(name, value string) *Response {
	r.Headers[name] = append(r.Headers[name], value)
	return r
}

// Cookie sets a cookie; attributes such as "Path=/; HttpOnly" may be "".
func (r *Response) Cookie(name, value, attributes string) *Response {
	if attributes != "" {
		attributes = "; " + attributes
	}
	return r.Header("set-cookie", name+"="+value+attributes)
}

func (r *Response) set(name, value string) *Response {
	r.Headers[name] = []string{value}
	return r
}

// Serve reads the request from stdin, and prints the answer to it.
func Serve(answer func(*Request) *Response) {
	request := &Request{}
	if err := json.NewDecoder(os.Stdin).Decode(request); err != nil {
		log.Fatal(err)
	}
	response := answer(request)
	body, isBase64 := string(response.Body), !utf8.Valid(response.Body)
	if isBase64 {
		body = base64.StdEncoding.EncodeToString(response.Body)
	}
	message := map[string]any{
		"status_code": response.Status, "headers": response.Headers, "body": body, "is_base64_encoded": isBase64,
	}
	if err := json.NewEncoder(os.Stdout).Encode(message); err != nil {
		log.Fatal(err)
	}
}
