;; Writes to stdin, reads from stdout and stderr.
(data (i32.const 64) "\00\01\00\00\10\00\00\00")
(func $main
  (call $say (call $fd_write (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 80)))
  (call $say (call $fd_read (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80)))
  (call $say (call $fd_read (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80))))
