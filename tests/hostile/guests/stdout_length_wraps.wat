(data (i32.const 64) "\50\00\00\00\ff\ff\ff\ff")
(func $main (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80))))
