;; How many variables there are, and whether one of them is of the host.
(func $main (local $i i32) (local $other i32)
  (drop (call $environ_sizes_get (i32.const 0) (i32.const 4)))
  (drop (call $environ_get (i32.const 1024) (i32.const 4096)))
  (loop $on
    ;; EDGE or TRAC(EPARENT)
    (if (i32.and
        (i32.ne (i32.load (i32.load (i32.add (i32.const 1024) (i32.shl (local.get $i) (i32.const 2))))) (i32.const 0x45474445))
        (i32.ne (i32.load (i32.load (i32.add (i32.const 1024) (i32.shl (local.get $i) (i32.const 2))))) (i32.const 0x43415254)))
      (then (local.set $other (i32.add (local.get $other) (i32.const 1)))))
    (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.load (i32.const 0)))))
  (call $say (local.get $other)))
