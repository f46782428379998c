(func $main (local $n i32)
  (local.set $n (i32.const 1))
  (loop $on
    (if (i32.ne (i32.const -1) (memory.grow (local.get $n)))
      (then (local.set $n (i32.mul (local.get $n) (i32.const 2))) (br $on))))
  (call $say (memory.size)))
