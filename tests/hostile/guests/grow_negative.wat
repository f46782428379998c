(func $main
  (call $say (memory.grow (i32.const -1)))
  (call $say (memory.grow (i32.const 0x80000000)))
  (call $say (memory.grow (i32.const 65536)))
  (call $say (memory.size)))
