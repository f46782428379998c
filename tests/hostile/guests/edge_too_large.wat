;; A payload over the bound of all payloads, where the memory would do.
(memory (export "memory") 1)
(func $main
  (drop (memory.grow (i32.const 1100)))
  (call $say (call $edge_call (i32.const 1) (i32.const 0) (i32.const 67108865))))
