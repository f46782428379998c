;; A timer for side channels: no two readings are nearer than the clock's resolution.
(func $main (local $last i64) (local $now i64) (local $n i32) (local $least i64)
  (local.set $least (i64.const 0x7fffffffffffffff))
  (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 0)))
  (local.set $last (i64.load (i32.const 0)))
  (loop $on
    (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 0)))
    (local.set $now (i64.load (i32.const 0)))
    (if (i64.ne (local.get $now) (local.get $last))
      (then
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i64.lt_u (i64.sub (local.get $now) (local.get $last)) (local.get $least))
          (then (local.set $least (i64.sub (local.get $now) (local.get $last)))))
        (local.set $last (local.get $now))))
    (br_if $on (i32.lt_u (local.get $n) (i32.const 10))))
  (call $say (i64.lt_u (local.get $least) (i64.const 1000000))))
