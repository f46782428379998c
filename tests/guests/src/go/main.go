package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"strings"
)

func serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Method", r.Method)
	fmt.Fprintf(w, "%s %s %s %s", r.URL.Path, r.URL.Query().Get("q"), r.Header.Get("X-Name"), strings.ToUpper(string(body)))
}

func main() {
	variables := map[string]string{}
	for _, each := range os.Environ() {
		name, value, _ := strings.Cut(each, "=")
		variables[name] = value
	}
	request, err := cgi.RequestFromMap(variables)
	if err != nil {
		panic(err)
	}
	request.Body = io.NopCloser(os.Stdin)
	answer := httptest.NewRecorder()
	serve(answer, request)
	result := answer.Result()
	fmt.Printf("Status: %d\n", result.StatusCode)
	result.Header.Write(os.Stdout)
	fmt.Print("\n")
	io.Copy(os.Stdout, result.Body)
}
