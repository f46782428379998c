;; The same with a directory granted: 3 is it, 4 and on are nothing.
(func $main (local $fd i32) (local $bad i32)
  (local.set $fd (i32.const 4))
  (loop $on
    (local.set $bad (i32.add (local.get $bad) (i32.eq (i32.const 8) (call $fd_fdstat_get (local.get $fd) (i32.const 128)))))
    (br_if $on (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 4096))))
  (call $say (local.get $bad))
  (call $say (call $fd_prestat_get (i32.const 4) (i32.const 128)))
  (call $say (call $fd_read (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 80))))
