(func $main
  (call $say (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0)))
  (call $say (call $sock_recv (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
  (call $say (call $sock_send (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))
  (call $say (call $sock_shutdown (i32.const 3) (i32.const 0))))
