;; Long, overlapping copies.
(memory (export "memory") 64)
(func $main
  (loop $on
    (memory.copy (i32.const 65537) (i32.const 65536) (i32.const 4000000))
    (memory.copy (i32.const 65536) (i32.const 65537) (i32.const 4000000))
    (br $on)))
