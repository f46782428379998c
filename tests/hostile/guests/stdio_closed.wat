;; Closes stdin and stderr, and renumbers what is not there; the answer gets through.
(func $main
  (call $say (call $fd_close (i32.const 0)))
  (call $say (call $fd_close (i32.const 2)))
  (call $say (call $fd_close (i32.const 2)))
  (call $say (call $fd_renumber (i32.const 0) (i32.const 1)))
  (call $say (call $fd_renumber (i32.const 1) (i32.const 7))))
