;; Every descriptor up to 4096, and the highest, without a grant.
(func $try (param $fd i32) (result i32)
  (i32.and
    (i32.and
      (i32.eq (i32.const 8) (call $fd_read (local.get $fd) (i32.const 64) (i32.const 1) (i32.const 80)))
      (i32.eq (i32.const 8) (call $fd_prestat_get (local.get $fd) (i32.const 128))))
    (i32.and
      (i32.eq (i32.const 8) (call $fd_fdstat_get (local.get $fd) (i32.const 128)))
      (i32.and
        (i32.eq (i32.const 8) (call $fd_readdir (local.get $fd) (i32.const 256) (i32.const 64) (i64.const 0) (i32.const 80)))
        (i32.eq (i32.const 8) (call $fd_close (local.get $fd)))))))
(func $main (local $fd i32) (local $bad i32)
  (local.set $fd (i32.const 3))
  (loop $on
    (local.set $bad (i32.add (local.get $bad) (call $try (local.get $fd))))
    (br_if $on (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 4096))))
  (call $say (local.get $bad))
  (call $say (call $try (i32.const -1)))
  (call $say (call $try (i32.const 0x7fffffff))))
