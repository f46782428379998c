module starlette-wasm/edge

go 1.21
