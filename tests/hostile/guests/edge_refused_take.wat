;; A call that is refused leaves no result of the one before.
(func $main
  (drop (call $edge_call (i32.const 99) (i32.const 0) (i32.const 0)))
  (drop (call $edge_call (i32.const 99) (i32.const -1) (i32.const 1)))
  (call $say (call $edge_take (i32.const 1024))))
