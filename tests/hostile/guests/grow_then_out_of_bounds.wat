(func $main
  (drop (memory.grow (i32.const 100000)))
  (i32.store8 (i32.const 65536) (i32.const 1)))
