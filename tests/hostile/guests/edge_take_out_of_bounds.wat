(func $main
  (drop (call $edge_call (i32.const 99) (i32.const 0) (i32.const 0)))
  (call $say (call $edge_take (i32.const -1))))
