// Package edge is for functions of starlette-wasm: it reads the request, calls the host, and answers.
//
//	func main() {
//		edge.Serve(func(request *edge.Request) *edge.Response {
//			return edge.Text(200, "hello "+request.Query["name"])
//		})
//	}
package edge

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
)

// Request is what a function is asked. Headers have lower-case names; Query has the last value of a repeated key.
type Request struct {
	Method     string              `json:"method"`
	Path       string              `json:"path"`
	URL        string              `json:"url"`
	Headers    map[string]string   `json:"headers"`
	Query      map[string]string   `json:"query"`
	Params     map[string]string   `json:"params"`
	MultiQuery map[string][]string `json:"multi_value_query"`
	RawBody    string              `json:"body"`
	IsBase64   bool                `json:"is_base64_encoded"`
}

// QueryAll returns all values of a key of the query.
func (r *Request) QueryAll(name string) []string {
	if all, ok := r.MultiQuery[name]; ok {
		return all
	}
	if value, ok := r.Query[name]; ok {
		return []string{value}
	}
	return nil
}

// Body returns the bytes of the body.
func (r *Request) Body() []byte {
	if !r.IsBase64 {
		return []byte(r.RawBody)
	}
	body, _ := base64.StdEncoding.DecodeString(r.RawBody) // the host made it
	return body
}

// JSON reads the body into a value.
func (r *Request) JSON(value any) error {
	return json.Unmarshal(r.Body(), value)
}

// Cookie returns a cookie, without the quotes that may be around its value, and whether there is one.
func (r *Request) Cookie(name string) (string, bool) {
	for _, pair := range strings.Split(r.Headers["cookie"], ";") {
		key, value, ok := strings.Cut(pair, "=")
		if ok && strings.TrimSpace(key) == name {
			value = strings.TrimSpace(value)
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			return value, true
		}
	}
	return "", false
}

// Form returns the fields of a form in the body (application/x-www-form-urlencoded), with all their values.
func (r *Request) Form() url.Values {
	fields, _ := url.ParseQuery(string(r.Body())) // what cannot be read is left out
	return fields
}
