;; Renumbering closes a descriptor, and is counted so: none is lost, to the guest or to the host.
(data (i32.const 0) "a.txt")
(func $main (local $n i32) (local $first i32)
  (drop (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)))
  (local.set $first (i32.load (i32.const 60000)))
  (loop $on
    (if (i32.eqz (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)))
      (then
        (drop (call $fd_renumber (i32.load (i32.const 60000)) (local.get $first)))
        (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10000))))))
  (call $say (i32.eq (local.get $n) (i32.const 10000))))
