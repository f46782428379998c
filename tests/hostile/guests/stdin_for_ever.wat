;; Reads on after the end.
(data (i32.const 64) "\00\01\00\00\00\10\00\00")
(func $main (loop $on (drop (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 80))) (br $on)))
