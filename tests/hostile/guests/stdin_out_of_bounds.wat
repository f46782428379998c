(data (i32.const 64) "\ff\ff\00\00\00\10\00\00")
(func $main (drop (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 80))))
