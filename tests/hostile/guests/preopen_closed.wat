;; Closes and replaces the granted directory.
(data (i32.const 0) "a.txt")
(func $main
  (call $say (call $fd_renumber (i32.const 3) (i32.const 9)))
  (drop (call $fd_close (i32.const 3)))
  (call $say (i32.ne (i32.const 0) (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)))))
