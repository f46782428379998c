;; Files and directories without end: 256 entries, then an error.
(data (i32.const 0) "f000000")
(func $name (param $n i32)
  (i32.store8 (i32.const 6) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
  (i32.store8 (i32.const 5) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
  (i32.store8 (i32.const 4) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 100)) (i32.const 10)))))
(func $main (local $n i32) (local $errno i32)
  (drop (call $random_get (i32.const 1) (i32.const 3))) ;; names of its own, beside others of its kind
  (i32.store8 (i32.const 1) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 1)) (i32.const 15))))
  (i32.store8 (i32.const 2) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 2)) (i32.const 15))))
  (i32.store8 (i32.const 3) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 3)) (i32.const 15))))
  (loop $on
    (call $name (local.get $n))
    (local.set $errno (call $open (i32.const 0) (i32.const 7) (i32.const 1) (i64.const 66)))
    (drop (call $fd_close (i32.load (i32.const 60000))))
    (br_if $on (i32.and
      (i32.eqz (local.get $errno))
      (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))))
  (call $say (i32.sub (local.get $n) (i32.const 1)))
  (call $say (local.get $errno))
  (call $say (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 7)))
  (call $say (call $path_symlink (i32.const 0) (i32.const 7) (i32.const 3) (i32.const 0) (i32.const 7)))
  (call $say (call $path_link (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 3) (i32.const 0) (i32.const 7)))
  (local.set $n (i32.const 0))
  (loop $off
    (call $name (local.get $n))
    (drop (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 7)))
    (br_if $off (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300)))))
