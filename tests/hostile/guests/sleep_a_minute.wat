(data (i32.const 16) "\01")
(data (i32.const 24) "\00\58\47\f8\0d")
(func $main (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
