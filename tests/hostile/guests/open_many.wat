;; Descriptors without end: 64, then an error.
(data (i32.const 0) "a.txt")
(func $main (local $n i32) (local $errno i32)
  (loop $on
    (local.set $errno (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)))
    (if (i32.eqz (local.get $errno)) (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $on))))
  (call $say (local.get $n))
  (call $say (local.get $errno)))
