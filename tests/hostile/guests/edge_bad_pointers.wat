;; Payloads that begin or end outside, or are larger than any may be.
(func $main
  (call $say (call $edge_call (i32.const 1) (i32.const 65535) (i32.const 2)))
  (call $say (call $edge_call (i32.const 1) (i32.const -1) (i32.const 1)))
  (call $say (call $edge_call (i32.const 1) (i32.const 0) (i32.const -1)))
  (call $say (call $edge_call (i32.const 1) (i32.const -1) (i32.const -1)))
  (call $say (call $edge_call (i32.const 1) (i32.const 0x80000000) (i32.const 0x80000000))))
