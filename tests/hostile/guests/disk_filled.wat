;; Writes until there is an error: 64 MiB, and no more by truncating in between.
(memory (export "memory") 32)
(data (i32.const 0) "large")
(data (i32.const 64) "\00\00\01\00\00\00\10\00")
(func $main (local $n i32) (local $errno i32)
  (drop (call $random_get (i32.const 1) (i32.const 3))) ;; names of its own, beside others of its kind
  (i32.store8 (i32.const 1) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 1)) (i32.const 15))))
  (i32.store8 (i32.const 2) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 2)) (i32.const 15))))
  (i32.store8 (i32.const 3) (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.const 3)) (i32.const 15))))
  (drop (call $open (i32.const 0) (i32.const 5) (i32.const 9) (i64.const 66)))
  (loop $on
    (local.set $errno (call $fd_write (i32.load (i32.const 60000)) (i32.const 64) (i32.const 1) (i32.const 80)))
    (if (i32.eqz (local.get $errno))
      (then
        (drop (call $fd_filestat_set_size (i32.load (i32.const 60000)) (i64.const 0)))
        (drop (call $fd_seek (i32.load (i32.const 60000)) (i64.const 0) (i32.const 0) (i32.const 80)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $on))))
  (call $say (i32.le_u (local.get $n) (i32.const 64)))
  (call $say (local.get $errno))
  (drop (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 5))))
