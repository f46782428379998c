;; Page by page, each written to, to the bound, then a trap.
(func $main (local $page i32)
  (loop $on
    (local.set $page (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $page) (i32.const -1))
      (then (memory.fill (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1) (i32.const 65536)) (br $on))))
  unreachable)
