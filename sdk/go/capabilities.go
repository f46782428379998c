package edge

// Fetch is a request of the function's own. The method is GET if it is empty; a timeout of 0 is what is left.
type Fetch struct {
	URL, Method     string
	Headers         map[string]string
	Body            []byte
	TimeoutMS       int
	ManualRedirects bool // take a redirect as the answer
}

// Fetched is its answer. Header names are in lower case; URL is where the redirects led.
type Fetched struct {
	Status  int
	Headers map[string][]string
	URL     string
	Body    []byte
}

// Send sends the request. The error is a *Failure if there is no answer.
func (f Fetch) Send() (*Fetched, error) {
	given := fields{"url": f.URL, "headers": f.Headers}
	if f.Headers == nil {
		delete(given, "headers")
	}
	if f.Method != "" {
		given["method"] = f.Method
	}
	if f.TimeoutMS != 0 {
		given["timeoutMs"] = f.TimeoutMS
	}
	if f.ManualRedirects {
		given["maxRedirects"] = 0
	}
	got := &Fetched{}
	body, err := call(httpFetch, given, f.Body, got)
	got.Body = body
	return got, err
}

// KV is a namespace of a key/value store.
type KV string

// Entry is a value; ETag stands for it in CompareAndSet.
type Entry struct {
	Value []byte
	ETag  string
}

func (n KV) fields(key string, ttlMS int) fields {
	given := fields{"namespace": string(n), "key": key}
	if ttlMS != 0 {
		given["ttlMs"] = ttlMS
	}
	return given
}

// Get returns a value, nil if there is none.
func (n KV) Get(key string) (*Entry, error) {
	var result struct {
		Found bool
		ETag  string
	}
	body, err := call(kvGet, n.fields(key, 0), nil, &result)
	if err != nil || !result.Found {
		return nil, err
	}
	return &Entry{body, result.ETag}, nil
}

// Set keeps a value, for ever if ttlMS is 0, and returns its etag.
func (n KV) Set(key string, value []byte, ttlMS int) (string, error) {
	var result struct{ ETag string }
	_, err := call(kvSet, n.fields(key, ttlMS), value, &result)
	return result.ETag, err
}

// Delete returns whether the value was there.
func (n KV) Delete(key string) (bool, error) {
	var result struct{ Deleted bool }
	_, err := call(kvDelete, n.fields(key, 0), nil, &result)
	return result.Deleted, err
}

// List returns keys with a prefix behind a cursor, and the cursor for the next ones: "" behind the last.
func (n KV) List(prefix, cursor string) ([]string, string, error) {
	given := fields{"namespace": string(n), "prefix": prefix}
	if cursor != "" {
		given["cursor"] = cursor
	}
	var result struct {
		Keys   []string
		Cursor string
	}
	_, err := call(kvList, given, nil, &result)
	return result.Keys, result.Cursor, err
}

// Increment returns the sum.
func (n KV) Increment(key string, by int64) (int64, error) {
	given := n.fields(key, 0)
	given["by"] = by
	var result struct{ Value int64 }
	_, err := call(kvIncrement, given, nil, &result)
	return result.Value, err
}

// CompareAndSet keeps a value if the one before still has the etag, or if there is none for "". It returns whether it did.
func (n KV) CompareAndSet(key, etag string, value []byte, ttlMS int) (bool, error) {
	given := n.fields(key, ttlMS)
	if etag != "" {
		given["etag"] = etag
	}
	var result struct{ Swapped bool }
	_, err := call(kvCas, given, value, &result)
	return result.Swapped, err
}

// Publish puts a message into a queue, and returns its id.
func Publish(queue string, body []byte, attributes map[string]string) (string, error) {
	given := fields{"queue": queue}
	if attributes != nil {
		given["attributes"] = attributes
	}
	var result struct{ ID string }
	_, err := call(queuePublish, given, body, &result)
	return result.ID, err
}

// Span is one that was started; 0 if nobody records the trace. Attributes are texts, numbers and bools.
type Span int64

// Current is the span that was started last, of those that are open, else the function's own.
const Current Span = -1

// StartSpan starts a span.
func StartSpan(name string, attributes map[string]any) (Span, error) {
	var result struct{ Span Span }
	_, err := call(traceStart, fields{"name": name, "attributes": orEmpty(attributes)}, nil, &result)
	return result.Span, err
}

// End ends the span, with what went wrong in it, if anything did.
func (s Span) End(failure error) error {
	given := s.fields()
	if failure != nil {
		given["error"] = failure.Error()
	}
	_, err := call(traceEnd, given, nil, nil)
	return err
}

// Set adds attributes.
func (s Span) Set(attributes map[string]any) error {
	given := s.fields()
	given["attributes"] = orEmpty(attributes)
	_, err := call(traceSet, given, nil, nil)
	return err
}

// Event adds an event.
func (s Span) Event(name string, attributes map[string]any) error {
	given := s.fields()
	given["name"], given["attributes"] = name, orEmpty(attributes)
	_, err := call(traceEvent, given, nil, nil)
	return err
}

func (s Span) fields() fields {
	if s == Current {
		return fields{}
	}
	return fields{"span": s}
}

func orEmpty(attributes map[string]any) map[string]any {
	if attributes == nil {
		return map[string]any{}
	}
	return attributes
}
