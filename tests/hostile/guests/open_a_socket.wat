(data (i32.const 0) "socket")
(func $main (call $say (call $open (i32.const 0) (i32.const 6) (i32.const 0) (i64.const 2))))
