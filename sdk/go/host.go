package edge

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"unsafe"
)

const (
	httpFetch    = 1
	kvGet        = 2
	kvSet        = 3
	kvDelete     = 4
	kvList       = 5
	kvIncrement  = 6
	kvCas        = 7
	queuePublish = 8
	traceStart   = 9
	traceEnd     = 10
	traceSet     = 11
	traceEvent   = 12
)

//go:wasmimport edge call
func hostCall(operation int32, payload unsafe.Pointer, length uint32) int32

//go:wasmimport edge take
func hostTake(result unsafe.Pointer) int32

// Failure is a call that failed. Code is stable, such as "host-not-allowed".
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (f *Failure) Error() string { return f.Message }

type fields map[string]any

// call carries out an operation. The fields of its result go into result; its body is returned.
func call(operation int32, given fields, body []byte, result any) ([]byte, error) {
	header, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	payload := binary.LittleEndian.AppendUint32(nil, uint32(len(header)))
	payload = append(append(payload, header...), body...)
	size := hostCall(operation, unsafe.Pointer(&payload[0]), uint32(len(payload)))
	if size < 4 {
		return nil, &Failure{"call-failed", fmt.Sprintf("edge.call: errno %d", -size)}
	}
	frame := make([]byte, size)
	if errno := hostTake(unsafe.Pointer(&frame[0])); errno != 0 {
		return nil, &Failure{"call-failed", fmt.Sprintf("edge.take: errno %d", errno)}
	}
	end := 4 + binary.LittleEndian.Uint32(frame)
	var failed struct{ Error *Failure }
	if err := json.Unmarshal(frame[4:end], &failed); err != nil {
		return nil, err
	}
	if failed.Error != nil {
		return nil, failed.Error
	}
	if result != nil {
		err = json.Unmarshal(frame[4:end], result)
	}
	return frame[end:], err
}
