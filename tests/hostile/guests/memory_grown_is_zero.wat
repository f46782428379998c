;; What an earlier guest wrote must not show in pages that come later.
(func $main (local $at i32) (local $found i32)
  (drop (memory.grow (i32.const 40)))
  (local.set $at (i32.const 65536))
  (loop $on
    (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (local.set $found (i32.const 1))))
    (br_if $on (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 2600000))))
  (call $say (local.get $found))
  (memory.fill (i32.const 65536) (i32.const 0xa5) (i32.const 2600000)))
