package edge

import (
	"bytes"
	"mime"
	"strings"
)

// Part is one of multipart/form-data.
type Part struct {
	Name, Filename, Type string
	Body                 []byte
}

// Multipart returns the parts of a multipart body, none for a body that is not multipart.
func (r *Request) Multipart() []Part {
	_, parameters, err := mime.ParseMediaType(r.Headers["content-type"])
	if err != nil || parameters["boundary"] == "" {
		return nil
	}
	body := append([]byte("\r\n"), r.Body()...)
	var parts []Part
	for _, piece := range bytes.Split(body, []byte("\r\n--"+parameters["boundary"]))[1:] {
		if bytes.HasPrefix(piece, []byte("--")) {
			return parts
		}
		parts = append(parts, part(piece))
	}
	return nil // it does not end
}

func part(piece []byte) Part {
	head, body, _ := bytes.Cut(piece, []byte("\r\n\r\n"))
	made := Part{Body: body}
	for _, line := range strings.Split(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-disposition":
			if _, parameters, err := mime.ParseMediaType(value); err == nil {
				made.Name, made.Filename = parameters["name"], parameters["filename"]
			}
		case "content-type":
			made.Type = strings.TrimSpace(value)
		}
	}
	return made
}
