(data (i32.const 64) "\f0\ff\00\00\00\01\00\00")
(func $main (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80))))
